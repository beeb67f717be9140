"""The log in JSON: one object per line, with the request's id, and nothing that should not be there."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator
from typing import Any

import pytest

from service.logs import configure
from tests.service.conftest import clip, serving
from tests.service.fakes import FakeRunner

pytestmark = pytest.mark.anyio

KEY = "a-secret-key-of-a-caller"


@pytest.fixture
def log() -> Iterator[io.StringIO]:
    """What is logged in JSON; the root logger is given back as it was."""
    root = logging.getLogger()
    before = root.handlers[:], root.level
    root.handlers = []
    file = io.StringIO()
    configure("info", "json", file)
    yield file
    root.handlers, root.level = before[0], before[1]


def entries(file: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.getvalue().splitlines()]


async def test_every_request_is_one_entry_with_its_id(log: io.StringIO) -> None:
    async with serving() as client:
        await client.post("/continue?seconds=1", content=clip(), headers={"X-Request-ID": "caller-1"})
        await client.post("/continue?seconds=-1", content=clip(), headers={"X-Request-ID": "caller-2"})
    access = [entry for entry in entries(log) if entry["logger"] == "audiolm.access"]
    assert [entry["request_id"] for entry in access] == ["caller-1", "caller-2"]
    assert [entry["outcome"] for entry in access] == ["ok", "client_error"]
    assert [entry["status"] for entry in access] == [200, 422]
    assert access[1]["code"] == "invalid_parameter"
    assert access[0]["route"] == "/continue"
    assert access[0]["seconds"] > 0
    assert access[0]["level"] == "info"
    assert access[0]["time"].endswith("+00:00")


async def test_a_failure_of_the_engine_names_its_request_and_its_trace(log: io.StringIO) -> None:
    def fail(batch: object) -> None:
        raise RuntimeError("broken\nstage")

    async with serving(FakeRunner(before=fail)) as client:
        await client.post("/continue", content=clip(), headers={"X-Request-ID": "unlucky"})
    failure = next(entry for entry in entries(log) if entry["level"] == "error")
    assert failure["request_id"] == "unlucky"
    assert "RuntimeError: broken\nstage" in failure["trace"]


async def test_keys_queries_and_sound_are_never_logged(log: io.StringIO) -> None:
    sound = clip()
    async with serving(api_keys=KEY, log_level="debug") as client:
        await client.post(
            "/continue?seconds=1&secret=in-the-query",
            content=sound,
            headers={"Authorization": f"Bearer {KEY}"},
        )
        await client.post("/continue", content=sound, headers={"Authorization": f"Bearer {KEY}-wrong"})
        await client.get("/in-the-path")
    ours = [
        entry for entry in entries(log) if entry["logger"] != "httpx"
    ]  # the caller's, in the same process
    assert len(ours) >= 3
    text = json.dumps(ours)
    for secret in (KEY, "in-the-query", "in-the-path", "RIFF"):
        assert secret not in text


def test_a_line_break_cannot_forge_an_entry(log: io.StringIO) -> None:
    logging.getLogger("audiolm").warning("first\n%s", '{"level": "error"}')
    assert len(entries(log)) == 1


def test_records_below_the_level_are_left_out(log: io.StringIO) -> None:
    logging.getLogger("audiolm").debug("too much")
    assert log.getvalue() == ""
