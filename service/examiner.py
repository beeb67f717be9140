"""Asks the layers that need no engine about a clip: content credentials, ledger, watermark.

Decisions held here: a layer that is switched off is never asked and its finding is None; a ledger that cannot be
reached is counted, and its finding is None too, because the other layers can still tell. The ledger is asked for the
very file first (by its digest, then by what our own signature says), then for its sound, then for the payload of the
watermark. A raw pcm answer that somebody has put behind a WAV header is still that file. Blocks; belongs on a pool of
threads.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Self

import numpy as np
import numpy.typing as npt

from model.config import SAMPLE_RATE
from service.findings import CredentialsFinding, LedgerFinding, LedgerMatchKind, Span, WatermarkFinding
from service.ledger import Entry, Ledger, LedgerUnavailable
from service.verdict import Findings

if TYPE_CHECKING:
    from model.watermark import Mark
    from service.credentials import Credentials, CredentialState
    from service.provenance import Provenance

Samples = npt.NDArray[np.float32]

NOT_IN_LEDGER = LedgerFinding(
    match="none", generation_id=None, created_at=None, bundle=None, seed=None, segments=[]
)
WATERMARK_VERSION = "1"


class Examiner:
    """Any of the layers may be missing. `find_mark` looks for the watermark in samples [N] at 16 kHz.

    `on_ledger_failure` is told of a ledger that could not be asked; it is called on the thread that examines."""

    def __init__(
        self,
        *,
        find_mark: Callable[[Samples], Mark] | None = None,
        ledger: Ledger | None = None,
        credentials: Credentials | None = None,
        on_ledger_failure: Callable[[], None] = lambda: None,
    ) -> None:
        self.find_mark = find_mark
        self.ledger = ledger
        self.credentials = credentials
        self.on_ledger_failure = on_ledger_failure

    @classmethod
    def of(cls, provenance: Provenance, *, on_ledger_failure: Callable[[], None] = lambda: None) -> Self:
        """Asks the layers that mark answers here."""
        return cls(
            find_mark=None if provenance.watermark is None else provenance.watermark.find,
            ledger=provenance.ledger,
            credentials=provenance.credentials,
            on_ledger_failure=on_ledger_failure,
        )

    @property
    def watermark_version(self) -> str | None:
        return None if self.find_mark is None else WATERMARK_VERSION

    def examine(self, data: bytes, samples: Samples) -> tuple[Findings, dict[str, float]]:
        """What the layers say of the file `data` that holds `samples` [N] at 16 kHz; seconds that each took."""
        taken: dict[str, float] = {}
        with _timed(taken, "credentials"):
            state = None if self.credentials is None else self.credentials.read(data)
            credentials = None if state is None else _credentials_finding(state)
        with _timed(taken, "watermark"):
            watermark = None if self.find_mark is None else _watermark_finding(self.find_mark(samples))
        with _timed(taken, "ledger"):
            ledger = self._look_up(data, samples, credentials, watermark)
        signed = () if state is None or state.state != "ours" else tuple(_spans(state.segments))
        seconds = len(samples) / SAMPLE_RATE
        return Findings(seconds, credentials, ledger, watermark, signed=signed), taken

    def _look_up(
        self,
        data: bytes,
        samples: Samples,
        credentials: CredentialsFinding | None,
        watermark: WatermarkFinding | None,
    ) -> LedgerFinding | None:
        if self.ledger is None:
            return None
        try:
            return (
                _look_up_file(self.ledger, data, credentials)
                or _look_up_sound(self.ledger, samples)
                or _look_up_payload(self.ledger, watermark)
                or NOT_IN_LEDGER
            )
        except LedgerUnavailable:
            self.on_ledger_failure()
            return None


def _look_up_file(
    ledger: Ledger, data: bytes, credentials: CredentialsFinding | None
) -> LedgerFinding | None:
    entry = next(filter(None, map(ledger.lookup_digest, digests_of(data))), None)
    if entry is None and credentials is not None and credentials.state == "ours":
        entry = ledger.lookup_id(credentials.generation_id or "")
    return None if entry is None else _ledger_finding("file", entry, entry.segments)


def _look_up_sound(ledger: Ledger, samples: Samples) -> LedgerFinding | None:
    """The surest generation; where others are heard as well, their seconds count too."""
    matches = ledger.match(samples)
    if not matches:
        return None
    return _ledger_finding("sound", matches[0].entry, (span for match in matches for span in match.segments))


def _look_up_payload(ledger: Ledger, watermark: WatermarkFinding | None) -> LedgerFinding | None:
    """16 bits name one generation among few; where several share them, none is named."""
    if watermark is None or watermark.payload is None:
        return None
    entries = ledger.lookup_payload(watermark.payload)
    if not entries:
        return None
    return _ledger_finding("payload", entries[0] if len(entries) == 1 else None, ())


def _credentials_finding(state: CredentialState) -> CredentialsFinding:
    return CredentialsFinding(
        state=state.state, signer=state.signer, generation_id=state.generation_id, detail=state.detail
    )


def _watermark_finding(mark: Mark) -> WatermarkFinding:
    return WatermarkFinding(
        present=mark.present,
        p_value=mark.p_value,
        payload=mark.payload if mark.present else None,
        key_id=mark.key_id if mark.present else None,
        segments=_spans(mark.segments if mark.present else ()),
    )


def _ledger_finding(
    match: LedgerMatchKind, entry: Entry | None, segments: Iterable[tuple[float, float]]
) -> LedgerFinding:
    return LedgerFinding(
        match=match,
        generation_id=None if entry is None else entry.id,
        created_at=None if entry is None else entry.created_at.isoformat(timespec="seconds"),
        bundle=None if entry is None else entry.bundle,
        seed=None if entry is None else entry.seed,
        segments=_spans(segments),
    )


def _spans(pairs: Iterable[tuple[float, float]]) -> list[Span]:
    """In order, each stretch once: several rows may know the same sound."""
    merged: list[Span] = []
    for start, end in sorted(pairs):
        span = Span(start=round(max(0.0, start), 3), end=round(end, 3))
        if merged and span.start <= merged[-1].end:
            merged[-1] = Span(start=merged[-1].start, end=max(merged[-1].end, span.end))
        else:
            merged.append(span)
    return merged


def digests_of(data: bytes) -> Iterator[bytes]:
    """SHA-256 of the file, and of the samples of a WAV: what a raw pcm answer was."""
    yield hashlib.sha256(data).digest()
    samples = _wav_samples(memoryview(data))
    if samples is not None:
        yield hashlib.sha256(samples).digest()


def _wav_samples(data: memoryview) -> memoryview | None:
    """The body of the chunk "data" of a WAV, None for anything else."""
    if bytes(data[:4]) != b"RIFF" or bytes(data[8:12]) != b"WAVE":
        return None
    at = 12
    while at + 8 <= len(data):
        size = int.from_bytes(data[at + 4 : at + 8], "little")
        if bytes(data[at : at + 4]) == b"data":
            return data[at + 8 : at + 8 + size]
        at += 8 + size + size % 2
    return None


@contextmanager
def _timed(taken: dict[str, float], step: str) -> Iterator[None]:
    started = time.perf_counter()
    yield
    taken[step] = time.perf_counter() - started
