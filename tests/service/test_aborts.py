"""Callers who leave at any moment leave nothing behind: no place, no slot, no upload, no task."""

from __future__ import annotations

import asyncio
import gc
import random
from typing import Any

import pytest
from fastapi import FastAPI

from model.engine.sequence import Sequence
from service.app import create_app
from service.settings import Settings
from service.upload import Upload
from tests.service.conftest import clip
from tests.service.fakes import FakeRunner, fake_worker, pause

pytestmark = pytest.mark.anyio

BODY = clip(0.6)
REQUESTS = 400
AT_ONCE = 8
LONGEST_WAIT = 0.04  # seconds, in which the engine makes a third of what was asked for


async def leave(app: FastAPI, runner: FakeRunner, name: str, after: float, *, stream: bool) -> int:
    """Send a request and disconnect `after` seconds; three in four when the engine has begun with it. Returns the
    status that was sent, 0 for none."""
    status = 0
    messages = [{"type": "http.request", "body": BODY[:9_000], "more_body": True}]
    if after > 0.002:  # else the caller leaves in the middle of the upload
        messages.append({"type": "http.request", "body": BODY[9_000:], "more_body": False})

    async def receive() -> dict[str, Any]:
        if messages:
            return messages.pop(0)
        while after > LONGEST_WAIT / 4 and name not in runner.running:
            await asyncio.sleep(0.001)
        await asyncio.sleep(after)
        return {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        nonlocal status
        status = message.get("status", status)

    query = f"seconds=30&stream={str(stream).lower()}".encode()
    headers = [(b"content-type", b"audio/wav"), (b"host", b"x"), (b"x-request-id", name.encode())]
    scope = {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "method": "POST",
        "scheme": "http",
        "path": "/continue",
        "raw_path": b"/continue",
        "query_string": query,
        "headers": headers,
        "client": ("127.0.0.1", 1),
        "server": ("x", 80),
    }
    await app(scope, receive, send)
    return status


def alive(*kinds: type) -> int:
    gc.collect()
    return sum(type(thing) in kinds for thing in gc.get_objects())


async def test_callers_who_leave_leave_nothing_behind() -> None:
    runner = FakeRunner(slots=4, before=pause(0.001))
    worker = fake_worker(runner, max_queue_size=1000, max_backlog_seconds=1e9)
    app = create_app(Settings(), worker)
    rng = random.Random(0)
    async with app.router.lifespan_context(app):
        await worker.ready()
        before = alive(Sequence, Upload)
        for number in range(REQUESTS // AT_ONCE):
            batch = [
                leave(app, runner, f"{number}-{i}", rng.uniform(0, LONGEST_WAIT), stream=rng.random() < 0.5)
                for i in range(AT_ONCE)
            ]
            assert set(await asyncio.gather(*batch)) <= {0, 200, 499}
        assert worker.open_continuations == 0
        async with asyncio.timeout(60):
            while runner.running or worker.gauges().running:
                await asyncio.sleep(0.01)
        assert worker.gauges().finished["cancelled"] > REQUESTS // 4
        noise = (
            2 * AT_ONCE
        )  # threads may still hold the last batch of requests, whatever their number before it
        assert alive(Sequence, Upload) <= before + noise
        leaked = [Upload.__new__(Upload) for _ in range(REQUESTS // 10)]
        assert alive(Sequence, Upload) > before + noise, "the control: one kept in ten is seen"
        del leaked
