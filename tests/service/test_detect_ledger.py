"""What the ledger tells /detect: the very file, the sound, the payload, or that it is away."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from model.fingerprint import fingerprint
from service import examiner
from service.ledger import Entry, Ledger
from service.provenance import Provenance
from tests.service.conftest import Samples, serving, sound_file, tone
from tests.service.test_detect import ask, layers, listening, made, spans
from tests.service.test_metrics import series_of, value

pytestmark = pytest.mark.anyio


def entered(ledger: Ledger, data: bytes, generated: Samples, **fields: Any) -> Entry:
    """An answer in the ledger: 3 s of prompt, then `generated`."""
    entry = Entry(
        **{
            "id": "5b" * 16,
            "created_at": datetime(2026, 11, 22, 14, 3, tzinfo=UTC),
            "bundle": "fake 0",
            "seed": 7,
            "parameters": {},
            "payload": 1234,
            "start": 3.0,
            "seconds": len(generated) / 16_000,
            **fields,
        }
    )
    ledger.record(entry, hashlib.sha256(data).digest(), fingerprint(generated))
    return entry


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    return Ledger(f"sqlite:///{tmp_path}/ledger.db")


async def test_the_very_file_is_in_the_ledger(ledger: Ledger) -> None:
    generated = made(5.0)
    file = sound_file(np.concatenate([tone(3.0), generated]), format="FLAC")
    entered(ledger, file, generated)
    async with serving(listening(), provenance=Provenance(ledger=ledger)) as client:
        answer = await ask(client, file)
    assert answer.verdict == "made_by_this_system"
    assert answer.ledger is not None and answer.ledger.match == "file"
    assert (answer.ledger.generation_id, answer.ledger.seed, answer.ledger.bundle) == ("5b" * 16, 7, "fake 0")
    assert answer.ledger.created_at == "2026-11-22T14:03:00+00:00"
    assert spans(answer) == [(3.0, 8.0)]
    assert answer.segments[0].evidence == ["ledger", "classifier"]


async def test_a_pcm_answer_behind_a_wav_header_is_still_that_file(ledger: Ledger) -> None:
    generated = made(2.0)
    wav = sound_file(generated)
    entered(ledger, wav[44:], generated, start=0.0)
    async with serving(provenance=Provenance(ledger=ledger)) as client:
        answer = await ask(client, wav)
    assert answer.verdict == "made_by_this_system"
    assert answer.ledger is not None and answer.ledger.match == "file"


async def test_the_ledger_knows_the_sound_and_else_the_payload(ledger: Ledger) -> None:
    generated = made(5.0)
    entered(ledger, b"another file", generated)
    async with serving(listening(), provenance=layers(ledger=ledger)) as client:
        by_sound = await ask(client, sound_file(np.concatenate([tone(4.0), generated]), format="OGG"))
        by_payload = await ask(client, sound_file(made(5.0, seed=6)))
    assert by_sound.ledger is not None and by_sound.ledger.match == "sound"
    assert by_sound.verdict == "partly"
    ((start, end),) = spans(by_sound)
    assert start == pytest.approx(4.0, abs=0.3) and end == pytest.approx(9.0, abs=0.3)
    assert by_payload.ledger is not None and by_payload.ledger.match == "payload"
    assert by_payload.ledger.generation_id == "5b" * 16
    assert by_payload.evidence == ["ledger", "watermark", "classifier"]


async def test_several_generations_with_one_payload_name_none(ledger: Ledger) -> None:
    for i in range(2):
        entered(ledger, bytes([i]), made(3.0, seed=10 + i), id=str(i) * 32)
    async with serving(provenance=layers(ledger=ledger)) as client:
        answer = await ask(client, sound_file(made(5.0, seed=6)))
    assert answer.ledger is not None
    assert (answer.ledger.match, answer.ledger.generation_id) == ("payload", None)


async def test_a_ledger_that_is_away_is_null_and_counted(tmp_path: Path) -> None:
    away = Ledger(f"sqlite:///{tmp_path}/no/such/folder/ledger.db")
    async with serving(listening(), provenance=layers(ledger=away)) as client:
        answer = await ask(client, sound_file(made(3.0)))
        series = series_of((await client.get("/metrics")).text)
    assert answer.ledger is None
    assert answer.verdict == "made_by_this_system"
    assert "Not looked at: the ledger" in answer.summary
    assert value(series, "audiolm_ledger_failures_total", operation="look_up") == 1


def test_a_stretch_that_two_rows_know_is_told_once() -> None:
    spans = examiner._spans([(5.0, 11.0), (-0.1, 2.0), (5.0, 11.0), (10.0, 12.0)])
    assert [(span.start, span.end) for span in spans] == [(0.0, 2.0), (5.0, 12.0)]
