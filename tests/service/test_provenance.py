"""POST /continue with every layer of provenance on and real: watermark, SQLite, C2PA."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import io
import threading
from typing import Any

import c2pa
import numpy as np
import pytest

from service.layers import build_provenance
from service.ledger import Ledger
from service.provenance import Provenance
from service.settings import Settings
from tests.service.conftest import samples_of, serving, sound_file, tone
from tests.service.layered import ask, database

pytestmark = pytest.mark.anyio


def raw_samples(data: bytes) -> Any:
    return (np.frombuffer(data, "<i2") / 32768).astype(np.float32)


@pytest.mark.parametrize("format", ["wav", "flac", "mp3", "ogg", "pcm"])
@pytest.mark.parametrize("stream", ["true", "false"])
async def test_an_answer_is_marked_entered_and_signed(
    provenance: Provenance, format: str, stream: str
) -> None:
    async with serving(provenance=provenance) as client:
        response = await ask(client, f"seconds=5&seed=7&response_format={format}&stream={stream}")
        assert provenance.ledger and provenance.credentials and provenance.watermark
        entry = provenance.ledger.lookup_digest(hashlib.sha256(response.content).digest())
        assert entry is not None
        assert entry.id == response.headers["x-generation-id"]
        assert (entry.seed, entry.bundle, entry.segments) == (7, "fake 0", ((1.5, 6.5),))
        found = provenance.credentials.read(response.content)
        if format in ("wav", "flac", "mp3") and stream == "false":
            assert (found.state, found.generation_id, found.segments) == ("ours", entry.id, ((1.5, 6.5),))
        else:
            assert found.state in ("none", "unsupported")
        samples = raw_samples(response.content) if format == "pcm" else samples_of(response.content)
        mark = provenance.watermark.find(samples)
        assert mark.present and mark.payload == entry.payload
        if format in ("wav", "flac", "pcm"):  # the fake's white noise is the worst there is for a fingerprint
            assert [match.entry for match in provenance.ledger.match(samples)] == [entry]


@pytest.mark.parametrize("format", ["wav", "flac", "pcm"])
async def test_streamed_samples_equal_the_unstreamed_and_the_prompt_is_untouched(
    provenance: Provenance, format: str
) -> None:
    read = raw_samples if format == "pcm" else samples_of
    async with serving(provenance=provenance) as client:
        query = f"seconds=2.3&seed=4&response_format={format}"
        whole = await ask(client, query)
        streamed = await ask(client, f"{query}&stream=true")
    async with serving() as client:
        unmarked = read((await ask(client, query)).content)
    marked = read(whole.content)
    assert np.array_equal(marked, read(streamed.content))
    assert whole.headers["x-generation-id"] != streamed.headers["x-generation-id"]
    assert np.array_equal(marked[:24_000], tone(1.5))
    assert np.array_equal(marked[:24_000], unmarked[:24_000])
    changed = np.abs(marked[24_000:] - unmarked[24_000:])
    assert changed.max() < 0.3
    assert (changed > 0).mean() > 0.9


async def test_the_same_request_gives_the_same_sound_and_another_does_not(provenance: Provenance) -> None:
    async with serving(provenance=provenance) as client:
        first, again = [await ask(client, "seconds=2&seed=3") for _ in range(2)]
        other = await ask(client, "seconds=2&seed=4")
    assert np.array_equal(samples_of(first.content), samples_of(again.content))
    assert provenance.ledger
    rows = [
        provenance.ledger.lookup_id(answer.headers["x-generation-id"]) for answer in (first, again, other)
    ]
    assert rows[0] and rows[1] and rows[2]
    assert rows[0].payload == rows[1].payload != rows[2].payload


async def test_each_of_several_continuations_has_a_row_of_its_own(provenance: Provenance) -> None:
    async with serving(provenance=provenance) as client:
        several = (await ask(client, "seconds=1&seed=20&num_continuations=3&include_prompt=false")).json()
        alone = await ask(client, "seconds=1&seed=21&include_prompt=false")
    assert provenance.ledger and provenance.credentials
    sounds = [base64.b64decode(item["audio"]) for item in several["continuations"]]
    for item, sound in zip(several["continuations"], sounds, strict=True):
        entry = provenance.ledger.lookup_digest(hashlib.sha256(sound).digest())
        assert entry is not None
        assert (entry.id, entry.seed, entry.start) == (item["generation_id"], item["seed"], 0.0)
        assert provenance.credentials.read(sound).generation_id == entry.id
    assert np.array_equal(samples_of(sounds[1]), samples_of(alone.content))


async def test_a_re_encoded_answer_leads_back_to_its_row() -> None:
    key = (
        "5e" * 32
    )  # the fake's sound is white noise, the hardest to know by its fingerprint: the same in every run
    provenance = build_provenance(Settings(watermark_key=key))
    async with serving(provenance=provenance) as client:
        response = await ask(client, "seconds=5&seed=1")
    copy = samples_of(sound_file(samples_of(response.content), format="MP3"))
    assert provenance.ledger and provenance.watermark
    mark = provenance.watermark.find(copy)
    assert mark.payload is not None
    assert [row.id for row in provenance.ledger.lookup_payload(mark.payload)] == [
        response.headers["x-generation-id"]
    ]
    (match,) = provenance.ledger.match(copy)
    assert match.entry.id == response.headers["x-generation-id"]
    assert match.segments[0][0] == pytest.approx(1.5, abs=0.3)


async def test_the_clip_is_the_answers_parent(provenance: Provenance) -> None:
    async with serving(provenance=provenance) as client:
        first = (await ask(client, "seconds=1&seed=1&response_format=flac")).content
        response = await client.post("/continue?seconds=1", files={"file": first})
    assert response.status_code == 200
    with c2pa.Reader(io.BytesIO(response.content)) as reader:
        manifest = reader.get_active_manifest()
        assert manifest is not None
        parent = reader.get_manifest(manifest["ingredients"][0]["active_manifest"])
    assert parent is not None
    assert parent["title"] == "continuation.flac"


async def test_blocking_work_stays_off_the_event_loop(provenance: Provenance) -> None:
    used: set[str] = set()

    class Watched(Ledger):
        def _transaction(self) -> Any:
            used.add(threading.current_thread().name.rstrip("0123456789"))
            return super()._transaction()

    watched = Provenance(provenance.watermark, Watched(f"sqlite:///{database()}"), provenance.credentials)
    async with serving(provenance=watched) as client:
        await ask(client, "seconds=1")
        await ask(client, "seconds=1&stream=true")
    assert used == {"audio_"}


def test_nothing_of_the_prompt_is_on_the_disk(provenance: Provenance) -> None:
    prompt = tone(1.5)

    async def generate() -> None:
        async with serving(provenance=provenance) as client:
            await ask(client, "seconds=1")

    asyncio.run(generate())
    wav = sound_file(prompt)
    for path in database().parent.iterdir():
        data = path.read_bytes()
        assert wav[2000:2064] not in data
        assert hashlib.sha256(wav).digest() not in data
        assert prompt[1000:1016].tobytes() not in data
