"""No answer goes out without its row in the ledger, whenever the ledger dies; unless the operator wants it so."""

from __future__ import annotations

import asyncio
import hashlib
from typing import Any

import numpy as np
import pytest

from service.app import create_app
from service.layers import build_provenance
from service.provenance import Provenance
from service.settings import Settings
from service.streaming import StreamBroken
from tests.service.conftest import assert_problem, clip, samples_of, serving
from tests.service.fakes import FakeRunner, Gate, fake_worker
from tests.service.layered import ask, kill_ledger, revive_ledger
from tests.service.test_metrics import series_of, value

pytestmark = pytest.mark.anyio


async def test_no_answer_goes_out_without_its_row(provenance: Provenance) -> None:
    runner = FakeRunner()
    async with serving(runner, provenance=provenance) as client:
        kill_ledger()
        for stream in ("true", "false"):
            refused = await client.post(f"/continue?stream={stream}", files={"file": clip()})
            assert assert_problem(refused, 503, "provenance_unavailable")["detail"].count("ledger") == 1
        assert runner.steps == 0, "no work is done for an answer that could not go out"
        revive_ledger()
        assert (await ask(client, "seconds=1")).headers["x-generation-id"]
        series = series_of((await client.get("/metrics")).text)
    assert value(series, "audiolm_rejections_total", reason="provenance_unavailable") == 2
    assert value(series, "audiolm_ledger_failures_total", operation="record") == 2
    assert value(series, "audiolm_watermark_embeddings_total") == 1


async def test_a_ledger_that_dies_while_sound_is_made_stops_the_answer(provenance: Provenance) -> None:
    gate = Gate()
    async with serving(FakeRunner(before=gate), provenance=provenance) as client:
        asked = asyncio.create_task(client.post("/continue?seconds=1", files={"file": clip()}))
        await asyncio.to_thread(gate.reached.wait, 60)
        kill_ledger()
        gate.open()
        assert_problem(await asked, 503, "provenance_unavailable")
        revive_ledger()
        assert (await ask(client, "seconds=1")).status_code == 200


class Call:
    """One request straight to the app; `at_piece` sees each piece of the answer before it leaves."""

    def __init__(self, app: Any, query: str, at_piece: Any) -> None:
        self.app = app
        self.at_piece = at_piece
        self.body = b""
        self.complete = False
        self.pieces = 0
        self.headers: dict[bytes, bytes] = {}
        self.scope = {
            "type": "http",
            "asgi": {"version": "3.0"},
            "http_version": "1.1",
            "method": "POST",
            "scheme": "http",
            "path": "/continue",
            "raw_path": b"/continue",
            "root_path": "",
            "query_string": query.encode(),
            "headers": [(b"content-type", b"audio/wav")],
            "client": ("127.0.0.1", 1),
            "server": ("x", 80),
        }

    async def run(self) -> None:
        given = [{"type": "http.request", "body": clip()}]

        async def receive() -> Any:
            if given:
                return given.pop()
            return await asyncio.Event().wait()

        async def send(message: Any) -> None:
            if message["type"] == "http.response.start":
                self.headers = dict(message["headers"])
                return
            self.at_piece(self, message.get("body", b""))
            self.pieces += 1
            self.body += message.get("body", b"")
            self.complete = not message.get("more_body", False)

        await self.app(self.scope, receive, send)


@pytest.mark.parametrize("format", ["wav", "flac", "mp3", "ogg", "pcm"])
async def test_a_stream_has_its_row_before_its_first_byte_and_its_digest_before_its_last(
    provenance: Provenance, format: str
) -> None:
    ledger = provenance.ledger
    assert ledger
    opened: list[bool] = []
    known: list[bool] = []

    def look(call: Call, piece: bytes) -> None:
        if piece:
            opened.append(ledger.lookup_id(call.headers[b"x-generation-id"].decode()) is not None)
            known.append(ledger.lookup_digest(hashlib.sha256(call.body + piece).digest()) is not None)

    worker = fake_worker()
    app = create_app(Settings(), worker, provenance=provenance)
    async with app.router.lifespan_context(app):
        await worker.ready()
        call = Call(app, f"seconds=1&stream=true&response_format={format}", look)
        await call.run()
    assert call.complete
    assert all(opened)
    assert known == [False] * (len(known) - 1) + [True]


async def test_a_ledger_that_dies_during_a_stream_breaks_it_off(provenance: Provenance) -> None:
    gate = Gate(skip=2)

    def kill(call: Call, piece: bytes) -> None:
        if call.pieces == 0:
            kill_ledger()
            gate.open()

    worker = fake_worker(FakeRunner(before=gate))
    app = create_app(Settings(), worker, provenance=provenance)
    async with app.router.lifespan_context(app):
        await worker.ready()
        call = Call(app, "seconds=1&stream=true", kill)
        with pytest.raises(StreamBroken, match="ledger"):
            await call.run()
    assert call.body
    assert not call.complete
    assert len(call.body) < int(call.headers[b"content-length"])


async def test_best_effort_answers_and_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AUDIOLM_PROVENANCE", "best_effort")
    provenance = build_provenance(Settings())
    async with serving(provenance=provenance) as client:
        kill_ledger()
        whole = await ask(client, "seconds=2&seed=1")
        streamed = await ask(client, "seconds=2&seed=1&stream=true")
        series = series_of((await client.get("/metrics")).text)
    assert np.array_equal(samples_of(whole.content), samples_of(streamed.content))
    assert provenance.credentials and provenance.watermark
    assert provenance.credentials.read(whole.content).state == "ours"
    assert provenance.watermark.find(samples_of(whole.content)).present
    assert value(series, "audiolm_ledger_failures_total", operation="record") == 3  # a stream tries twice
    assert value(series, "audiolm_watermark_embeddings_total") == 2
