"""The ledger: one row for every generation, so that a file, a sound or a watermark leads back to when it was made.

Holds what was asked for and how the answer can be known again (digest of the file, payload of the watermark,
fingerprint of the generated seconds); never the sound, never anything of the prompt. Fingerprints are found through
an index of their words, so a look-up takes about as long among a million rows as among ten. Blocks; belongs on the
pool of audio threads.
"""

from __future__ import annotations

import logging
import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import numpy as np
import sqlalchemy as sql
from sqlalchemy.engine import Connection, Row
from sqlalchemy.exc import SQLAlchemyError

from model.errors import AudioLMError
from model.fingerprint import HOP_SAMPLES, PHASES, SILENT, Samples, Words, compare, fingerprint
from service.ledger_tables import generations, make_tables, open_database, words

logger = logging.getLogger(__name__)

PURGE_SECONDS = 3600.0  # time between two looks for rows that are too old
PURGED_AT_ONCE = 500  # so that no writer waits long
_ASKED_AT_ONCE = 1000  # words or rows in one query
_MOST_HITS = 50_000  # what so many frames share tells nothing
_OFFSETS_TRIED = 8  # per generation


class LedgerUnavailable(AudioLMError):
    """The database does not answer, or not as it should; the cause is chained."""

    default_code = "provenance_unavailable"


@dataclass(frozen=True)
class Entry:
    """One generation. `start`: second of the answered file where generated sound begins, for `seconds`."""

    id: str  # 32 hexadecimal digits
    created_at: datetime  # UTC
    bundle: str  # name and version
    seed: int
    parameters: dict[str, Any]
    payload: int | None  # of the watermark, 16 bits
    start: float
    seconds: float

    @property
    def segments(self) -> tuple[tuple[float, float], ...]:
        """Seconds of the answered file that were generated."""
        return ((self.start, self.start + self.seconds),)


@dataclass(frozen=True)
class LedgerMatch:
    """A generation heard in a clip. `segments`: seconds of the clip; `bit_errors`: 0..1, of the best stretch."""

    entry: Entry
    segments: tuple[tuple[float, float], ...]
    bit_errors: float


class Ledger:
    """`retention_days`: rows that are older are deleted. Raises ConfigError for a URL that means nothing.

    Nothing is opened before `prepare` or the first use; every method that reads or writes raises LedgerUnavailable.
    """

    def __init__(self, url: str, retention_days: float | None = None) -> None:
        self._database = open_database(url)
        self._retention_days = retention_days
        self._next_purge = 0.0
        self._prepared = False

    def prepare(self) -> None:
        """Make the tables if there are none. Raises ConfigError for those of another version."""
        with _reachable():
            make_tables(self._database)
        self._prepared = True

    def check(self) -> None:
        """Raise LedgerUnavailable if no row could be written now, a disk that has just become full aside."""
        with self._transaction() as connection:
            connection.execute(
                generations.update().where(generations.c.row == -1).values(seed=0)
            )  # there is none

    def open(self, entry: Entry) -> None:
        """Enter a generation whose answer is not complete yet."""
        with self._transaction() as connection:
            connection.execute(generations.insert().values(_values(entry)))

    def complete(self, id: str, digest: bytes, known_by: Words) -> None:
        """Add to an open generation the SHA-256 of its answer and the fingerprint of its generated seconds."""
        found = generations.c.id == id
        with self._transaction() as connection:
            connection.execute(generations.update().where(found).values(_marks(digest, known_by)))
            row = connection.execute(sql.select(generations.c.row).where(found)).scalar_one()
            _index(connection, row, known_by)
        self._forget_old()

    def record(self, entry: Entry, digest: bytes, known_by: Words) -> None:
        """Enter a generation with its complete answer."""
        with self._transaction() as connection:
            inserted = connection.execute(
                generations.insert().values({**_values(entry), **_marks(digest, known_by)})
            )
            assert inserted.inserted_primary_key is not None
            _index(connection, inserted.inserted_primary_key[0], known_by)
        self._forget_old()

    def lookup_id(self, id: str) -> Entry | None:
        """The generation of this id."""
        return self._newest(generations.c.id == id)

    def lookup_digest(self, digest: bytes) -> Entry | None:
        """The newest generation whose answer has this SHA-256."""
        return self._newest(generations.c.digest == digest)

    def lookup_payload(self, payload: int) -> list[Entry]:
        """Generations marked with `payload`, newest first; it has 16 bits, so among many rows some are strangers."""
        with self._transaction() as connection:
            return [
                _entry(row) for row in connection.execute(_newest_first(generations.c.payload == payload))
            ]

    def match(self, waveform: Samples) -> list[LedgerMatch]:
        """Generations heard in `waveform` [N] at 16 kHz, wherever in it; the surest first."""
        asked = fingerprint(waveform, HOP_SAMPLES // PHASES)
        matches = []
        with self._transaction() as connection:
            candidates = _candidates(connection, asked)
            for some in _batches(list(candidates)):
                for row in connection.execute(_newest_first(generations.c.row.in_(some))):
                    known = np.frombuffer(row.fingerprint, "<u4").astype(np.uint32)
                    tried = [compare(known, asked, offset) for offset in candidates[row.row]]
                    found = [alike for alike in tried if alike is not None]
                    if found:
                        spans = _union([span for alike in found for span in alike.spans])
                        matches.append(
                            LedgerMatch(_entry(row), spans, min(alike.bit_errors for alike in found))
                        )
        return sorted(matches, key=lambda match: match.bit_errors)

    def purge(self, before: float) -> int:
        """Delete generations made before `before` (seconds since 1970), at most 500 of them; how many."""
        old = sql.select(generations.c.row, generations.c.fingerprint).where(
            generations.c.created_at < before
        )
        with self._transaction() as connection:
            rows = connection.execute(old.limit(PURGED_AT_ONCE)).all()
            for row, stored in rows:
                entries = _index_entries(row, np.frombuffer(stored or b"", "<u4"))
                if entries:  # by their whole key: the index is not searched for a generation
                    key = sql.and_(*(column == sql.bindparam(f"_{column.name}") for column in words.c))
                    named = [{f"_{name}": value for name, value in entry.items()} for entry in entries]
                    connection.execute(words.delete().where(key), named)
            connection.execute(generations.delete().where(generations.c.row.in_([row for row, _ in rows])))
        return len(rows)

    def close(self) -> None:
        self._database.dispose()

    def _forget_old(self) -> None:
        if self._retention_days is None or time.monotonic() < self._next_purge:
            return
        self._next_purge = time.monotonic() + PURGE_SECONDS
        with suppress(LedgerUnavailable):  # the next time will do
            if self.purge(time.time() - self._retention_days * 86_400) == PURGED_AT_ONCE:
                self._next_purge = 0.0  # more are left, for the next generation: none waits long

    def _newest(self, condition: sql.ColumnElement[bool]) -> Entry | None:
        with self._transaction() as connection:
            row = connection.execute(_newest_first(condition).limit(1)).first()
        return None if row is None else _entry(row)

    @contextmanager
    def _transaction(self) -> Iterator[Connection]:
        if not self._prepared:  # the database was away when the service started
            self.prepare()
        with _reachable(), self._database.begin() as connection:
            yield connection


@contextmanager
def _reachable() -> Iterator[None]:
    try:
        yield
    except (SQLAlchemyError, OSError) as error:  # says where the database is: for the log, not for callers
        logger.error("the ledger failed: %s", getattr(error, "orig", None) or error)
        raise LedgerUnavailable("the ledger of generations cannot be reached or written") from error


def _values(entry: Entry) -> dict[str, Any]:
    return {**vars(entry), "created_at": entry.created_at.timestamp()}


def _marks(digest: bytes, known_by: Words) -> dict[str, Any]:
    return {"digest": digest, "fingerprint": known_by.astype("<u4").tobytes()}


def _entry(row: Row[Any]) -> Entry:
    fields = {name: getattr(row, name) for name in Entry.__dataclass_fields__}
    return Entry(**{**fields, "created_at": datetime.fromtimestamp(row.created_at, UTC)})


def _newest_first(condition: sql.ColumnElement[bool]) -> sql.Select[Any]:
    return sql.select(generations).where(condition).order_by(generations.c.row.desc())


def _index(connection: Connection, row: int, known_by: Words) -> None:
    entries = _index_entries(row, known_by)
    if entries:
        connection.execute(words.insert(), entries)


def _index_entries(row: int, known_by: Words) -> list[dict[str, int]]:
    frames = np.flatnonzero(known_by != SILENT)
    signed = known_by[frames].astype(np.uint32).view(np.int32)
    return [
        {"word": word, "generation": row, "frame": frame}
        for word, frame in zip(signed.tolist(), frames.tolist(), strict=True)
    ]


def _candidates(connection: Connection, asked: Words) -> dict[int, list[int]]:
    """Generations that share a word with `asked`, and the offsets in it at which they may begin, likeliest first."""
    order = np.argsort(asked, kind="stable")
    in_order = asked[order]
    distinct = np.unique(asked[asked != SILENT]).view(np.int32)
    votes: dict[int, Counter[int]] = defaultdict(Counter)
    hits = 0
    for some in _batches(distinct.tolist()):
        query = sql.select(words.c.word, words.c.generation, words.c.frame).where(words.c.word.in_(some))
        for word, generation, frame in connection.execute(query.limit(_MOST_HITS - hits)):
            hits += 1
            first, last = np.searchsorted(in_order, [word % 2**32, word % 2**32 + 1])
            for place in order[first:last].tolist():
                votes[generation][place - PHASES * frame] += 1
        if hits >= _MOST_HITS:
            break
    return {row: [offset for offset, _ in count.most_common(_OFFSETS_TRIED)] for row, count in votes.items()}


def _batches(values: list[int]) -> Iterator[list[int]]:
    for start in range(0, len(values), _ASKED_AT_ONCE):
        yield values[start : start + _ASKED_AT_ONCE]


def _union(spans: list[tuple[float, float]]) -> tuple[tuple[float, float], ...]:
    joined: list[tuple[float, float]] = []
    for start, end in sorted(spans):
        if joined and start <= joined[-1][1]:
            joined[-1] = (joined[-1][0], max(end, joined[-1][1]))
        else:
            joined.append((start, end))
    return tuple(joined)
