"""The whole way with real parts: a tiny bundle with random weights, the real engine, the real worker, HTTP."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path

import httpx
import numpy as np
import pytest
import torch

from model.audiolm import AudioLM, GenerationSettings
from model.engine.loading import load_engine
from service.worker import Worker
from tests.conftest import chord
from tests.service.conftest import samples_of, serving, sound_file

pytestmark = pytest.mark.anyio

CLIP = np.rint(chord(1.3) * 32768).astype(np.float32) / 32768
FILE = sound_file(CLIP)


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="module")
async def client(anyio_backend: str, tiny_bundle: Path) -> AsyncIterator[httpx.AsyncClient]:
    worker = Worker(partial(load_engine, tiny_bundle, slots=4, max_seconds=4.0, threads=1))
    async with serving(worker=worker, max_seconds=4) as running:
        yield running


async def ask(client: httpx.AsyncClient, query: str, **headers: str) -> bytes:
    response = await client.post(f"/continue?{query}", files={"file": FILE}, headers=headers)
    assert response.status_code == 200, response.text
    return response.content


async def test_clip_then_exactly_so_many_seconds_and_the_same_seed_the_same_bytes(
    client: httpx.AsyncClient,
) -> None:
    first = await ask(client, "seconds=1.37&seed=5")
    again = await ask(client, "seconds=1.37&seed=5")
    other = await ask(client, "seconds=1.37&seed=6")
    samples = samples_of(first)
    assert len(samples) == len(CLIP) + round(1.37 * 16_000)
    assert np.array_equal(samples[: len(CLIP)], CLIP)
    assert first == again
    assert first != other


async def test_it_is_what_the_model_says_in_process(client: httpx.AsyncClient, tiny_bundle: Path) -> None:
    (made,) = AudioLM.load(tiny_bundle).continue_clip(
        torch.from_numpy(CLIP), GenerationSettings(seconds=0.8, seed=3)
    )
    served = samples_of(await ask(client, "seconds=0.8&seed=3"))
    expected = made.waveform.numpy().clip(-1, 1 - 2**-15)
    assert np.abs(served - expected).max() <= 2**-15


async def test_streamed_equals_unstreamed(client: httpx.AsyncClient) -> None:
    assert await ask(client, "seconds=2&seed=1&stream=true") == await ask(client, "seconds=2&seed=1")


async def test_company_changes_nothing(client: httpx.AsyncClient) -> None:
    alone = await ask(client, "seconds=1&seed=9")
    crowd = [ask(client, f"seconds={0.5 + 0.3 * i}&seed={i}") for i in range(6)]
    together = await asyncio.gather(ask(client, "seconds=1&seed=9"), *crowd)
    assert together[0] == alone


async def test_several_continuations(client: httpx.AsyncClient) -> None:
    response = await client.post("/continue?seconds=0.5&seed=20&num_continuations=3", files={"file": FILE})
    answer = response.json()
    sounds = [base64.b64decode(item["audio"]) for item in answer["continuations"]]
    assert [item["seed"] for item in answer["continuations"]] == [20, 21, 22]
    assert len(set(sounds)) == 3
    assert sounds[2] == await ask(client, "seconds=0.5&seed=22")
    assert answer["model"] == {"name": "tiny", "version": "0"}
    for stage in ("encode", "semantic", "coarse", "fine", "decode"):
        assert answer["timings"][stage] >= 0


async def test_any_upload_is_continued(client: httpx.AsyncClient) -> None:
    stereo = np.stack([chord(2.2, 44_100)] * 2, axis=1)
    for format in ("WAV", "FLAC", "OGG", "MP3"):
        response = await client.post(
            "/continue?seconds=0.4", files={"file": sound_file(stereo, 44_100, format)}
        )
        assert len(samples_of(response.content)) == pytest.approx(round(2.6 * 16_000), abs=200), format
