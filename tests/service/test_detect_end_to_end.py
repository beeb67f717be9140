"""/continue, then /detect on its answer, with every layer for real around a tiny bundle: we know our own."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from model.engine.loading import load_engine
from service.cli import main
from service.examiner import Examiner
from service.findings import DetectAnswer
from service.layers import build_provenance
from service.provenance import Origin
from service.settings import Settings
from service.worker import Worker
from tests.service.conftest import samples_of, serving, sound_file, tone

pytestmark = pytest.mark.anyio

PROMPT = 3.0
MADE = 5.0


def speech_like(seconds: float) -> np.ndarray:
    """Noise under a moving filter and a syllable's loudness: somebody else's sound, with bands for a mark to be in."""
    rng = np.random.default_rng(3)
    count = round(seconds * 16_000)
    time = np.arange(count) / 16_000
    voice = sum(
        np.sin(2 * np.pi * 130 * k * time + 3 * np.sin(2 * np.pi * 2 * time)) / k for k in range(1, 40)
    )
    sound = (0.2 * voice + 0.05 * rng.standard_normal(count)) * (0.3 + np.abs(np.sin(2 * np.pi * 1.7 * time)))
    return (0.2 * sound).astype(np.float32)


CLIP = np.rint(speech_like(PROMPT) * 32768).astype(np.float32) / 32768


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("data")


@pytest.fixture(scope="module")
async def client(anyio_backend: str, tiny_bundle: Path, data_dir: Path) -> AsyncIterator[httpx.AsyncClient]:
    worker = Worker(partial(load_engine, tiny_bundle, slots=2, max_seconds=6.0, threads=1))
    provenance = build_provenance(Settings(data_dir=data_dir))
    async with serving(worker=worker, provenance=provenance, max_seconds=6) as running:
        yield running


async def made(client: httpx.AsyncClient, **parameters: Any) -> httpx.Response:
    response = await client.post(
        "/continue", params={"seconds": MADE, **parameters}, files={"file": sound_file(CLIP)}
    )
    assert response.status_code == 200, response.text
    return response


async def detect(client: httpx.AsyncClient, data: bytes) -> DetectAnswer:
    response = await client.post("/detect", files={"file": data})
    assert response.status_code == 200, response.text
    return DetectAnswer.model_validate_json(response.content)


def overlap(answer: DetectAnswer, start: float, end: float) -> float:
    """Intersection over union of the answer's segments and start..end."""
    shared = sum(max(0.0, min(s.end, end) - max(s.start, start)) for s in answer.segments)
    total = sum(s.seconds for s in answer.segments)
    return shared / (total + end - start - shared)


@pytest.mark.parametrize("format", ["wav", "flac", "mp3", "ogg", "pcm"])
async def test_an_answer_is_known_again(client: httpx.AsyncClient, format: str) -> None:
    response = await made(client, response_format=format, seed=7)
    data = response.content
    if format == "pcm":  # as a caller would keep it
        data = sound_file(np.frombuffer(data, "<i2").astype(np.float32) / 32768)
    answer = await detect(client, data)
    assert answer.verdict == "made_by_this_system", answer.summary
    assert answer.ledger is not None and answer.ledger.match == "file"
    assert answer.ledger.generation_id == response.headers["x-generation-id"]
    assert answer.ledger.seed == 7
    assert answer.content_credentials is not None
    signed = format in ("wav", "flac", "mp3")
    assert (answer.content_credentials.state == "ours") == signed, answer.content_credentials.detail
    if signed:
        assert answer.content_credentials.generation_id == answer.ledger.generation_id
    assert overlap(answer, PROMPT, PROMPT + MADE) > 0.95
    assert answer.segments[0].start >= PROMPT - 0.05, "the prompt is never ours"
    assert "human" not in answer.summary


async def test_re_encoded_to_mp3_it_still_leads_to_its_row(client: httpx.AsyncClient) -> None:
    response = await made(client, response_format="wav", seed=8)
    answer = await detect(client, sound_file(samples_of(response.content), format="MP3"))
    assert answer.verdict == "partly"
    assert answer.content_credentials is not None and answer.content_credentials.state == "none"
    assert answer.ledger is not None and answer.ledger.match in ("sound", "payload")
    assert answer.ledger.generation_id == response.headers["x-generation-id"]
    assert answer.watermark is not None and answer.watermark.present
    assert overlap(answer, PROMPT, PROMPT + MADE) >= 0.8


async def test_generated_seconds_alone(client: httpx.AsyncClient) -> None:
    response = await made(client, response_format="wav", seed=9, include_prompt=False)
    answer = await detect(client, sound_file(samples_of(response.content), format="OGG"))
    assert answer.verdict == "made_by_this_system", answer.summary
    assert {"ledger", "watermark"} <= set(answer.evidence)


async def test_a_streamed_answer_is_known_again(client: httpx.AsyncClient) -> None:
    response = await made(client, response_format="wav", seed=10, stream=True)
    answer = await detect(client, response.content)
    assert answer.verdict == "made_by_this_system"
    assert answer.ledger is not None and answer.ledger.match == "file"


async def test_what_others_made_is_not_ours(client: httpx.AsyncClient) -> None:
    for sound in (speech_like(8.0), tone(8.0)):
        answer = await detect(client, sound_file(sound))
        assert answer.verdict in ("no_evidence", "inconclusive"), answer.summary
        assert answer.segments == [] == answer.evidence
        assert answer.ledger is not None and answer.ledger.match == "none"


async def test_a_changed_file_loses_its_signature_but_not_its_mark(client: httpx.AsyncClient) -> None:
    data = bytearray((await made(client, response_format="wav", seed=11)).content)
    data[100_000] ^= 1  # one bit of one sample
    answer = await detect(client, bytes(data))
    assert answer.content_credentials is not None and answer.content_credentials.state == "invalid"
    assert answer.verdict == "partly"
    assert "content_credentials" not in answer.evidence
    assert "do not count" in answer.summary


async def test_another_deployments_signature_and_watermark_are_not_ours(
    client: httpx.AsyncClient, tmp_path: Path
) -> None:
    stranger = build_provenance(Settings(data_dir=tmp_path))
    origin = Origin(CLIP, "tiny", "0", seed=1, parameters={}, start=0.0, seconds=5.0)
    generation = stranger.begin(origin)
    marked = np.concatenate([generation.mark(speech_like(5.0)), generation.finish()])
    file = sound_file(marked)
    signed = generation.seal(file, "wav", stranger.describe_parent(file, "wav"))
    assert Examiner.of(stranger).examine(signed, marked)[0].signed, "over there it is theirs"
    answer = await detect(client, signed)
    assert answer.content_credentials is not None and answer.content_credentials.state == "untrusted"
    assert answer.watermark is not None and not answer.watermark.present
    assert answer.verdict in ("no_evidence", "inconclusive")
    assert answer.segments == [] == answer.evidence
    stranger.close()


async def test_the_command_line_says_the_same(
    client: httpx.AsyncClient,
    data_dir: Path,
    tiny_bundle: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("AUDIOLM_DATA_DIR", str(data_dir))
    file = tmp_path / "answer.flac"
    file.write_bytes((await made(client, response_format="flac", seed=12)).content)
    served = await detect(client, file.read_bytes())
    command = ["detect", str(file), "--bundle", str(tiny_bundle)]
    assert await asyncio.to_thread(main, [*command, "--json"]) == 0
    local = json.loads(capsys.readouterr().out)
    assert local.pop("id") != served.id
    assert local == served.model_dump(exclude={"id"})
    assert await asyncio.to_thread(main, command) == 0
    shown = capsys.readouterr().out
    assert shown.startswith("made_by_this_system: ")
    for said in ("3.00 - 8.00 s", "content credentials   ours", "ledger                file", "present, p ="):
        assert said in shown, shown
