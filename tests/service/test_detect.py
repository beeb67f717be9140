"""POST /detect as its callers meet it: what is found, what is refused, and that every exit gives its place back."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import httpx
import numpy as np
import pytest

from service.findings import DetectAnswer
from service.provenance import Provenance
from tests.service.conftest import Samples, assert_problem, clip, serving, sound_file, tone
from tests.service.fakes import (
    DETECT,
    FakeCredentials,
    FakeDetector,
    FakeRunner,
    FakeWatermark,
    Gate,
    expected_sound,
)
from tests.service.test_metrics import series_of, value

pytestmark = pytest.mark.anyio


def listening(**kwargs: Any) -> FakeRunner:
    return FakeRunner(detector=FakeDetector(), **kwargs)


def made(seconds: float, seed: int = 5) -> Samples:
    """What the fake continues with: noise, in steps of 16 bits."""
    return np.rint(0.5 * expected_sound(seed, round(seconds * 16_000)) * 32768).astype(np.float32) / 32768


def layers(**given: Any) -> Provenance:
    return Provenance(**{"watermark": FakeWatermark(), "credentials": FakeCredentials(), **given})


async def ask(client: httpx.AsyncClient, data: bytes) -> DetectAnswer:
    response = await client.post("/detect", files={"file": data})
    assert response.status_code == 200, response.text
    return DetectAnswer.model_validate_json(response.content)


def spans(answer: DetectAnswer) -> list[tuple[float, float]]:
    return [(segment.start, segment.end) for segment in answer.segments]


async def test_sound_of_ours_behind_sound_of_somebody_else() -> None:
    both = np.concatenate([tone(3.0), made(5.0)])
    async with serving(listening(), provenance=layers()) as client:
        answer = await ask(client, sound_file(both))
    assert answer.verdict == "partly"
    assert answer.seconds == 8.0
    assert spans(answer) == [(3.0, 8.0)]
    assert answer.segments[0].evidence == ["watermark", "classifier"] == answer.evidence
    assert answer.watermark is not None and answer.watermark.payload == 1234
    assert answer.probability is not None and answer.probability > 0.9
    assert answer.operating_point is not None and answer.operating_point.clips == 3000
    assert [window.start for window in answer.timeline] == [i / 2 for i in range(13)]
    assert answer.timeline[0].probability < 0.1 < 0.9 < answer.timeline[-1].probability
    assert answer.content_credentials is not None and answer.content_credentials.state == "none"
    assert answer.ledger is None
    assert "3.0-8.0 s" in answer.summary and "Not looked at: the ledger" in answer.summary
    assert answer.versions.bundle == answer.versions.detector == "0"


async def test_sound_of_ours_alone_and_sound_of_others_alone() -> None:
    async with serving(listening(), provenance=layers()) as client:
        assert (await ask(client, sound_file(made(5.0)))).verdict == "made_by_this_system"
        stranger = await ask(client, clip(5.0))
    assert stranger.verdict == "no_evidence"
    assert stranger.segments == [] == stranger.evidence


async def test_headers_and_the_ways_to_send_a_clip() -> None:
    async with serving(listening(), provenance=layers()) as client:
        raw = await client.post("/detect", content=clip(), headers={"X-Request-ID": "mine"})
        form = await client.post("/detect", files={"file": clip()}, headers={"X-Request-ID": "mine"})
        others = [
            await client.post("/detect", content=sound_file(tone(2.0, 44_100, 2), 44_100, format))
            for format in ("FLAC", "OGG", "MP3")
        ]
    assert raw.json() == form.json()
    assert raw.json()["id"] == raw.headers["x-request-id"] == "mine"
    assert raw.headers["cache-control"] == "no-store"
    steps = {entry.split(";")[0] for entry in raw.headers["server-timing"].split(", ")}
    assert steps == {"upload", "read", "credentials", "watermark", "ledger", "detect"}
    for response in others:
        assert response.json()["seconds"] == pytest.approx(2.0, abs=0.1)


async def test_layers_that_are_not_there_are_null() -> None:
    async with serving(provenance=Provenance()) as client:
        answer = await ask(client, sound_file(made(3.0)))
    assert answer.verdict == "inconclusive"
    assert answer.watermark is answer.ledger is answer.content_credentials is None
    assert answer.probability is answer.operating_point is None
    assert answer.timeline == []
    assert answer.versions.detector is answer.versions.watermark is None
    for layer in ("content credentials", "the ledger", "the watermark", "the classifier"):
        assert layer in answer.summary


@pytest.mark.parametrize(
    ("signer", "verdict"), [("us", "made_by_this_system"), ("a stranger", "no_evidence")]
)
async def test_only_our_own_signature_counts(signer: str, verdict: str) -> None:
    async with serving(listening(), provenance=layers()) as client:
        answer = await ask(client, clip(3.0) + b"signed by " + signer.encode())
    assert answer.verdict == verdict
    assert answer.content_credentials is not None and answer.content_credentials.signer == signer
    assert answer.content_credentials.detail == "valid"


async def test_what_is_wrong_with_a_request() -> None:
    async with serving(listening(), max_detect_seconds=10, api_keys="a-key-of-sixteen-or-more") as client:
        assert_problem(await client.post("/detect", content=clip()), 401, "unauthorized")
        client.headers["Authorization"] = "Bearer a-key-of-sixteen-or-more"
        assert_problem(await client.post("/detect", content=b"hello"), 415, "unsupported_audio")
        assert_problem(await client.post("/detect", content=b""), 422, "empty_audio")
        assert_problem(await client.post("/detect", content=clip(0.1)), 422, "too_short")
        assert_problem(await client.post("/detect", content=clip(11)), 413, "too_long")
        assert_problem(await client.post("/detect", data={"a": "b"}), 415, "unsupported_media_type")
        for how in ({"params": {"threshold": "0.5"}}, {"data": {"threshold": "0.5"}}):
            document = assert_problem(
                await client.post("/detect", files={"file": clip()}, **how), 422, "invalid_parameter"
            )
            assert "threshold" in document["detail"] and "none" in document["detail"]
        assert (await client.post("/detect", content=clip(10))).status_code == 200
        assert client.worker.open_jobs(DETECT) == 0  # type: ignore[attr-defined]


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(60):
        while not condition():
            await asyncio.sleep(0.01)


async def test_full_is_told_before_the_upload_is_read() -> None:
    gate = Gate(DETECT)
    read = 0

    async def body() -> Any:
        nonlocal read
        read += 1
        yield clip()

    async with serving(listening(before=gate), max_detections=1) as client:
        first = asyncio.create_task(client.post("/detect", content=clip()))
        await asyncio.to_thread(gate.reached.wait, 60)
        assert_problem(await client.post("/detect", content=body()), 429, "overloaded")
        other = asyncio.create_task(client.post("/continue?seconds=0.5", content=clip()))
        await until(lambda: client.worker.open_continuations == 1)  # type: ignore[attr-defined]
        gate.open()
        assert (await first).status_code == (await other).status_code == 200
        assert (await client.post("/detect", content=clip())).status_code == 200
        series = series_of((await client.get("/metrics")).text)
    assert read == 0
    assert value(series, "audiolm_requests_total", route="/detect", outcome="rejected") == 1
    assert value(series, "audiolm_rejections_total", reason="overloaded") == 1


@pytest.mark.parametrize("where", ["engine", "examiner"])
async def test_a_deadline_ends_it_wherever_it_is(where: str) -> None:
    gate = Gate(DETECT)
    hold = asyncio.Event()
    loop = asyncio.get_running_loop()

    def wait() -> None:
        asyncio.run_coroutine_threadsafe(hold.wait(), loop).result(60)  # type: ignore[arg-type]

    runner = listening(before=gate) if where == "engine" else listening()
    slow = layers(watermark=FakeWatermark(wait)) if where == "examiner" else layers()
    async with serving(runner, provenance=slow, deadline_seconds=0.3) as client:
        assert_problem(await client.post("/detect", content=clip()), 504, "deadline_exceeded")
        assert client.worker.open_jobs(DETECT) == 0  # type: ignore[attr-defined]
        gate.open()
        hold.set()
        await until(lambda: not runner.running)
        async with asyncio.timeout(60):  # whoever asks again is served, be it late on a busy machine
            while (await client.post("/detect", content=clip())).status_code != 200:
                pass


async def test_a_caller_who_leaves_frees_the_place() -> None:
    gate = Gate(DETECT)
    runner = listening(before=gate)
    async with serving(runner, provenance=layers(), max_detections=1) as client:
        leaving = asyncio.create_task(client.post("/detect", content=clip()))
        await asyncio.to_thread(gate.reached.wait, 60)
        leaving.cancel()
        await asyncio.wait([leaving])
        await until(lambda: client.worker.open_jobs(DETECT) == 0)  # type: ignore[attr-defined]
        gate.open()
        await until(lambda: not runner.running)
        assert (await client.post("/detect", content=clip())).status_code == 200


async def test_a_stage_that_fails_is_an_error_of_this_request_only() -> None:
    fail = True

    def before(batch: Any) -> None:
        if batch.stage == DETECT and fail:
            raise RuntimeError("no good")

    async with serving(listening(before=before), provenance=layers()) as client:
        assert_problem(await client.post("/detect", content=clip()), 500, "stage_failed")
        fail = False
        assert (await client.post("/detect", content=clip())).status_code == 200


async def test_what_is_counted() -> None:
    async with serving(listening(), provenance=layers()) as client:
        await ask(client, sound_file(made(3.0)))
        await ask(client, clip(2.0))
        await client.post("/detect", content=b"hello")
        series = series_of((await client.get("/metrics")).text)
    assert value(series, "audiolm_detections_total", verdict="made_by_this_system") == 1
    assert value(series, "audiolm_detections_total", verdict="no_evidence") == 1
    assert value(series, "audiolm_detections_total", verdict="partly") == 0
    assert value(series, "audiolm_detect_evidence_total", layer="watermark") == 1
    assert value(series, "audiolm_detect_evidence_total", layer="ledger") == 0
    assert value(series, "audiolm_detect_audio_seconds_sum") == 5.0
    assert value(series, "audiolm_detect_probability_count") == 2
    assert value(series, "audiolm_detect_step_seconds_count", step="watermark") == 2
    assert value(series, "audiolm_request_duration_seconds_count", route="/detect") == 2
    assert value(series, "audiolm_requests_total", route="/detect", outcome="client_error") == 1
