"""The ledger on a real database: what is entered is found again, by file, by payload and by ear, and nothing else."""

from __future__ import annotations

import hashlib
import os
import sqlite3
import subprocess
import sys
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from model.errors import ConfigError
from model.fingerprint import Samples, fingerprint
from service import ledger as ledger_module
from service.ledger import Entry, Ledger, LedgerUnavailable
from tests.model.test_fingerprint import through, voice

RATE = 16_000


def entry(**changes: Any) -> Entry:
    values: dict[str, Any] = {
        "id": uuid.uuid4().hex,
        "created_at": datetime.now(UTC),
        "bundle": "starter 0.1.0",
        "seed": 7,
        "parameters": {"temperature": 1.0, "top_k": None},
        "payload": 4711,
        "start": 3.0,
        "seconds": 5.0,
    }
    return Entry(**{**values, **changes})


def digest(text: str) -> bytes:
    return hashlib.sha256(text.encode()).digest()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "ledger.sqlite"


@pytest.fixture
def ledger(path: Path) -> Iterator[Ledger]:
    made = Ledger(f"sqlite:///{path}")
    made.prepare()
    yield made
    made.close()


def record(ledger: Ledger, made: Samples | None = None, **changes: Any) -> Entry:
    row = entry(**changes)
    ledger.record(row, digest(row.id), fingerprint(np.zeros(0, np.float32) if made is None else made))
    return row


def test_a_row_is_found_by_id_by_digest_and_by_payload(ledger: Ledger) -> None:
    first, second = record(ledger), record(ledger)
    other = record(ledger, payload=1)
    assert ledger.lookup_id(first.id) == first
    assert ledger.lookup_digest(digest(second.id)) == second
    assert ledger.lookup_payload(4711) == [second, first]
    assert ledger.lookup_payload(1) == [other]
    assert first.segments == ((3.0, 8.0),)
    assert ledger.lookup_digest(digest("another file")) is None
    assert ledger.lookup_payload(2) == []


def test_a_streamed_answer_has_its_row_before_it_is_complete(ledger: Ledger) -> None:
    made = voice(1, 2)
    row = entry()
    ledger.open(row)
    assert ledger.lookup_payload(4711) == [row]
    assert ledger.match(made) == []
    ledger.complete(row.id, digest("file"), fingerprint(made))
    assert ledger.lookup_digest(digest("file")) == row
    assert [match.entry for match in ledger.match(made)] == [row]


@pytest.mark.parametrize(("format", "subtype"), [("MP3", None), ("OGG", "OPUS"), ("OGG", "VORBIS")])
def test_generated_seconds_are_heard_in_a_longer_clip(
    ledger: Ledger, format: str, subtype: str | None
) -> None:
    made = voice(1, 3)
    for seed in range(20, 30):
        record(ledger, voice(seed, 3))
    row = record(ledger, made)
    clip = np.concatenate([voice(2, 1.7), 0.3 * made, voice(3, 1)])
    (match,) = ledger.match(through(clip, format, subtype))
    assert match.entry == row
    assert match.segments[0][0] == pytest.approx(1.7, abs=0.3)
    assert match.segments[-1][1] == pytest.approx(4.7, abs=0.3)
    assert match.bit_errors < 0.28


def test_two_generations_in_one_clip_are_both_heard(ledger: Ledger) -> None:
    one, two = voice(1, 2), voice(2, 2)
    rows = {record(ledger, one).id, record(ledger, two).id}
    matches = ledger.match(np.concatenate([one, voice(3, 1), two, one]))
    assert {match.entry.id for match in matches} == rows
    spans = next(match.segments for match in matches if len(match.segments) == 2)
    assert spans[0][0] == pytest.approx(0, abs=0.1)
    assert spans[1][1] == pytest.approx(7, abs=0.1)


def test_strangers_are_not_heard(ledger: Ledger) -> None:
    for seed in range(100, 115):
        record(ledger, voice(seed, 3))
    for seed in range(200, 215):
        assert ledger.match(voice(seed, 3)) == []


def test_rows_hold_no_sound_and_little_space(path: Path, ledger: Ledger) -> None:
    made = voice(1, 10)
    record(ledger, made)
    ledger.close()
    assert path.stat().st_size < 0.15 * made.astype(np.int16).nbytes


def test_old_rows_are_forgotten_with_their_fingerprints(path: Path) -> None:
    ledger = Ledger(f"sqlite:///{path}", retention_days=30)
    made = voice(1, 2)
    old = record(ledger, made, created_at=datetime.now(UTC) - timedelta(days=31))
    assert ledger.lookup_id(old.id) is None
    assert ledger.match(made) == []
    with sqlite3.connect(path) as database:
        assert database.execute("SELECT count(*) FROM fingerprint_words").fetchone() == (0,)
    young = record(ledger, made, created_at=datetime.now(UTC) - timedelta(days=29))
    assert ledger.lookup_id(young.id) == young
    assert ledger.purge((datetime.now(UTC) - timedelta(days=28)).timestamp()) == 1
    ledger.close()


def test_many_old_rows_go_some_at_a_time(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ledger_module, "PURGED_AT_ONCE", 3)
    keeping = Ledger(f"sqlite:///{path}")
    old = [record(keeping, created_at=datetime(2020, 1, 1, tzinfo=UTC)) for _ in range(7)]
    keeping.close()
    ledger = Ledger(f"sqlite:///{path}", retention_days=30)
    left = []
    for _ in range(4):
        record(ledger)
        left.append(sum(ledger.lookup_id(row.id) is not None for row in old))
    assert left == [4, 1, 0, 0]
    ledger.close()


def test_a_schema_from_the_future_stops_the_start(path: Path, ledger: Ledger) -> None:
    ledger.close()
    with sqlite3.connect(path) as database:
        database.execute("UPDATE ledger_schema SET version = 2")
    with pytest.raises(ConfigError, match=r"schema version 2, this service knows version 1"):
        Ledger(f"sqlite:///{path}").prepare()


def test_a_file_that_is_no_database_is_told_apart_from_an_empty_one(path: Path) -> None:
    path.write_bytes(b"not a database at all" * 100)
    with pytest.raises(LedgerUnavailable):
        Ledger(f"sqlite:///{path}").prepare()


@pytest.mark.parametrize(
    "url",
    ["nonsense", "sqlite+nodriver:///x", "postgresql+nothing://user:hunter2@host/db", "oracle://hunter2@x/y"],
)
def test_a_url_that_means_nothing_stops_the_start_and_shows_no_password(url: str) -> None:
    with pytest.raises(ConfigError, match="AUDIOLM_LEDGER_URL") as caught:
        Ledger(url)
    assert "hunter2" not in str(caught.value)


def test_a_read_only_database_is_unavailable_and_says_no_more(path: Path, ledger: Ledger) -> None:
    record(ledger)
    ledger.close()
    read_only = Ledger(f"sqlite:///file:{path}?mode=ro&uri=true")
    with pytest.raises(LedgerUnavailable):
        read_only.check()
    with pytest.raises(LedgerUnavailable) as caught:
        record(read_only)
    assert str(path) not in str(caught.value)
    assert caught.value.code == "provenance_unavailable"
    read_only.close()


def test_a_full_disk_is_unavailable_and_loses_nothing(path: Path, ledger: Ledger) -> None:
    kept = record(ledger)
    pages = sqlite3.connect(path).execute("PRAGMA page_count").fetchone()[0]

    def no_more_pages(connection: Any, *_: object) -> None:
        connection.execute(f"PRAGMA max_page_count={pages}")

    full = Ledger(f"sqlite:///{path}")
    ledger_module.sql.event.listen(full._database, "connect", no_more_pages)
    with pytest.raises(LedgerUnavailable):
        for seed in range(50):
            record(full, voice(seed, 4))
    assert full.lookup_id(kept.id) == kept
    full.close()


def test_a_database_that_was_away_at_the_start_is_used_once_it_is_there(tmp_path: Path) -> None:
    ledger = Ledger(f"sqlite:///{tmp_path / 'later' / 'ledger.sqlite'}")
    with pytest.raises(LedgerUnavailable):
        ledger.check()
    (tmp_path / "later").mkdir()
    ledger.check()
    row = record(ledger)
    assert ledger.lookup_id(row.id) == row
    ledger.close()


WRITER = """
import sys, uuid
from datetime import UTC, datetime
import numpy as np
from service.ledger import Entry, Ledger
ledger = Ledger(sys.argv[1])
ledger.prepare()
payload = int(sys.argv[2])
for i in range(30):
    entry = Entry(uuid.uuid4().hex, datetime.now(UTC), "starter 0.1.0", i, {}, payload, 0.0, 1.0)
    ledger.record(entry, bytes(32), np.arange(1, 25, dtype=np.uint32))
print(len(ledger.lookup_payload(payload)))
"""


def test_two_processes_start_and_write_at_the_same_time(path: Path) -> None:
    root = Path(__file__).parents[2]
    command = [sys.executable, "-c", WRITER, f"sqlite:///{path}"]
    environment = {**os.environ, "PYTHONPATH": str(root)}
    writers = [
        subprocess.Popen(
            [*command, str(payload)], env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        for payload in (1, 2)
    ]
    for writer in writers:
        out, err = writer.communicate(timeout=100)
        assert (writer.returncode, out.strip()) == (0, b"30"), err.decode()
    ledger = Ledger(f"sqlite:///{path}")
    assert len(ledger.lookup_payload(1)) == len(ledger.lookup_payload(2)) == 30
    ledger.close()
