"""POST /continue with every layer of provenance on and real: watermark, SQLite, C2PA."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import io
import sqlite3
import threading
from pathlib import Path
from typing import Any

import c2pa
import httpx
import numpy as np
import pytest

from model.errors import ConfigError
from model.watermark import WatermarkKey
from service.app import create_app
from service.certificates import make_chain, parse_chain
from service.layers import build_provenance
from service.ledger import Ledger
from service.provenance import Provenance
from service.settings import Settings
from service.streaming import StreamBroken
from tests.service.conftest import assert_problem, clip, samples_of, serving, sound_file, tone
from tests.service.fakes import FakeRunner, Gate, expected_sound, fake_worker
from tests.service.test_metrics import series_of, value

pytestmark = pytest.mark.anyio

RATE = 16_000


@pytest.fixture
def provenance() -> Provenance:
    return build_provenance(Settings())


def database(settings: Settings | None = None) -> Path:
    folder = (settings or Settings()).data_dir
    assert folder is not None
    return folder / "ledger.sqlite"


def kill_ledger() -> None:
    with sqlite3.connect(database()) as connection:
        connection.execute("ALTER TABLE generations RENAME TO gone")


def revive_ledger() -> None:
    with sqlite3.connect(database()) as connection:
        connection.execute("ALTER TABLE gone RENAME TO generations")


async def ask(client: httpx.AsyncClient, query: str = "", **headers: str) -> httpx.Response:
    response = await client.post(f"/continue?{query}", files={"file": clip(1.5)}, headers=headers)
    assert response.status_code == 200, response.text
    return response


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
        await asyncio.to_thread(gate.reached.wait, 20)
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


@pytest.mark.parametrize("off", ["watermark", "ledger", "content_credentials"])
async def test_each_layer_can_be_switched_off(off: str) -> None:
    settings = Settings(**{off: False})
    provenance = build_provenance(settings)
    async with serving(provenance=provenance) as client:
        response = await ask(client, "seconds=5&seed=7")
    everything = build_provenance(Settings())
    assert everything.ledger and everything.credentials and everything.watermark
    marks = {
        "watermark": everything.watermark.find(samples_of(response.content)).present,
        "ledger": everything.ledger.lookup_id(response.headers["x-generation-id"]) is not None,
        "content_credentials": everything.credentials.read(response.content).state == "ours",
    }
    assert marks == {layer: layer != off for layer in marks}


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


def test_secrets_are_made_at_the_first_start_and_used_again() -> None:
    first, second = build_provenance(Settings()), build_provenance(Settings())
    assert first.watermark and second.watermark
    assert first.watermark.secret == second.watermark.secret
    folder = database().parent
    assert sorted(path.name for path in folder.iterdir() if "-" not in path.name) == [
        "ledger.sqlite",
        "signing.pem",
        "watermark.key",
    ]
    for name in ("signing.pem", "watermark.key"):
        assert (folder / name).stat().st_mode & 0o777 == 0o600


def test_a_given_key_is_used_and_former_ones_are_still_looked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    old, new = WatermarkKey.random(), WatermarkKey.random()
    noise = expected_sound(1, 5 * RATE)
    monkeypatch.setenv("AUDIOLM_WATERMARK_KEY", old.to_hex())
    before = build_provenance(Settings()).watermark
    assert before and before.secret == old.secret
    marker = before.begin(9)
    sound = np.concatenate([marker.push(noise), marker.finish()])
    monkeypatch.setenv("AUDIOLM_WATERMARK_KEY", f"{new.to_hex()}, {old.to_hex()}")
    settings = Settings()
    assert old.to_hex() not in repr(settings)
    after = build_provenance(settings).watermark
    assert after and after.secret == new.secret
    mark = after.find(sound)
    assert (mark.present, mark.payload, mark.key_id) == (True, 9, old.key_id)
    assert not (database().parent / "watermark.key").exists()


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"watermark_key": "not-hex"}, "key"),
        ({"watermark_key": "abcd"}, "key"),
        ({"ledger_url": "nonsense"}, "AUDIOLM_LEDGER_URL"),
        ({"signing_cert": "cert.pem"}, "AUDIOLM_SIGNING_KEY is not"),
        ({"signing_cert": "a", "signing_key": "b", "signing_anchors": "c"}, "a cannot be read"),
        ({"data_dir": "/proc/nowhere"}, "AUDIOLM_DATA_DIR"),
    ],
)
def test_what_can_never_work_stops_the_start(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        build_provenance(Settings(**settings))


async def test_a_production_chain_signs_and_only_its_anchors_are_trusted(
    tmp_path: Path, provenance: Provenance
) -> None:
    chain = parse_chain(make_chain("Operator"))
    for name, text in (("cert", chain.certificates), ("key", chain.key), ("anchors", chain.anchors)):
        (tmp_path / name).write_text(text)
    paths = {f"signing_{name}": tmp_path / name for name in ("cert", "key", "anchors")}
    operated = build_provenance(Settings(**paths))
    async with serving(provenance=operated) as client:
        answer = (await ask(client, "seconds=1")).content
    assert operated.credentials and provenance.credentials
    assert operated.credentials.read(answer).signer == "Operator: signer"
    assert operated.credentials.read(answer).state == "ours"
    assert provenance.credentials.read(answer).state == "untrusted"


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
