"""What makes an answer known again: a watermark in its generated seconds, a row in the ledger, content credentials.

    begin -> mark, mark ... finish -> [open, for a stream] -> seal

Decisions held here: each layer may be switched off; one that is on and fails stops the answer where provenance is
`required`, and is counted and left out where it is `best_effort`. The watermark's payload follows from the prompt, the
parameters and the seed under the watermark's key, so that the same request gives the same sound; the id is random. A
row is written before the answer's last byte leaves, and for a stream once more before its first. Blocks; belongs on
the pool of audio threads. Knows no HTTP.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import logging
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Literal, Protocol

import numpy as np
import numpy.typing as npt
from c2pa import C2paError

from model.errors import AudioLMError
from model.fingerprint import fingerprint
from service.credentials import SIGNED_FORMATS, Claim, Credentials
from service.encoding import Format
from service.ledger import Entry, Ledger, LedgerUnavailable

if TYPE_CHECKING:
    from model.watermark import Mark

logger = logging.getLogger(__name__)

Samples = npt.NDArray[np.float32]
Layer = Literal["watermark", "ledger", "content_credentials"]
Policy = Literal["required", "best_effort"]
Count = Callable[[Layer, bool], None]  # a layer was applied (True) or failed

_NAMES: dict[Layer, str] = {
    "watermark": "watermark",
    "ledger": "row in the ledger",
    "content_credentials": "content credentials",
}
_NOTHING = np.zeros(0, np.float32)


class ProvenanceUnavailable(AudioLMError):
    """A layer failed and answers may not go out without it."""

    default_code = "provenance_unavailable"


class Marker(Protocol):
    """Marks sound piece by piece; what it gives back may lag behind what it was given."""

    def push(self, chunk: Samples) -> Samples: ...

    def finish(self) -> Samples: ...


@dataclass(frozen=True)
class Origin:
    """What a generation is made from. `prompt` [N]: the samples that are continued; they are hashed, never kept.
    `start`: second of the answer where generated sound begins, for `seconds`."""

    prompt: Samples
    model: str
    model_version: str
    seed: int
    parameters: Mapping[str, Any]
    start: float
    seconds: float


class Watermark(Protocol):
    """Marks with one key and looks for the marks of all that are known."""

    @property
    def secret(self) -> bytes: ...

    def begin(self, payload: int) -> Marker: ...

    def find(self, samples: Samples) -> Mark: ...


class Provenance:
    """The layers of a deployment; None for one that is switched off."""

    def __init__(
        self,
        watermark: Watermark | None = None,
        ledger: Ledger | None = None,
        credentials: Credentials | None = None,
        *,
        policy: Policy = "required",
    ) -> None:
        self.watermark = watermark
        self.ledger = ledger
        self.credentials = credentials
        self.required = policy == "required"

    def begin(self, origin: Origin, count: Count = lambda layer, applied: None) -> Generation:
        """Before anything is generated. Raises ProvenanceUnavailable when no row could be written for it."""
        generation = Generation(self, origin, count)
        if self.ledger is not None and self.required:
            with generation.applying("ledger"):
                self.ledger.check()
        return generation

    def describe_parent(self, clip: bytes, format: Format) -> bytes | None:
        """What answers in `format` will keep of the uploaded `clip`: for `Generation.seal`."""
        if self.credentials is None or format not in SIGNED_FORMATS:
            return None
        return self.credentials.describe_parent(clip)

    def close(self) -> None:
        if self.ledger is not None:
            self.ledger.close()


class Generation:
    """One continuation on its way into an answer. `layers`: what has been applied. `seconds`: time each took."""

    def __init__(self, provenance: Provenance, origin: Origin, count: Count) -> None:
        watermark = provenance.watermark
        self.id = uuid.uuid4().hex
        self.payload = None if watermark is None else payload_of(watermark.secret, origin)
        self._marker = None if watermark is None or self.payload is None else watermark.begin(self.payload)
        self.layers: list[Layer] = []
        self.seconds: dict[str, float] = {}
        self._provenance = provenance
        self._origin = origin
        self._count = count
        self._marked: list[Samples] = []
        self._opened = False

    def mark(self, chunk: Samples) -> Samples:
        """Generated samples [n] in, marked samples out: fewer or more, in all as many."""
        return self._marked_by(chunk, lambda marker: marker.push(chunk))

    def finish(self) -> Samples:
        """The marked samples that are still owed."""
        rest = self._marked_by(_NOTHING, lambda marker: marker.finish())
        if self._marker is not None:
            self._apply("watermark")
        return rest

    def open(self) -> None:
        """Enter the generation in the ledger before a stream of it begins. Raises ProvenanceUnavailable."""
        if self._provenance.ledger is not None:
            with self.applying("ledger"):
                self._provenance.ledger.open(self._entry())
                self._opened = True

    def seal(self, sound: bytes, format: Format, parent: bytes | None) -> bytes:
        """The whole answer, signed if it can be, and then in the ledger. Raises ProvenanceUnavailable."""
        credentials = self._provenance.credentials
        if credentials is not None and parent is not None:
            origin = self._origin
            claim = Claim(self.id, origin.model, origin.model_version, origin.start, origin.seconds)
            with self.applying("content_credentials"):
                sound = credentials.sign(sound, format, claim, parent)
                self._apply("content_credentials")
        self.record(hashlib.sha256(sound).digest())
        return sound

    def record(self, digest: bytes) -> None:
        """Enter the finished answer in the ledger by the SHA-256 of its bytes. Raises ProvenanceUnavailable."""
        ledger = self._provenance.ledger
        if ledger is None:
            return
        with self.applying("ledger"):
            known_by = fingerprint(np.concatenate([_NOTHING, *self._marked]))
            if self._opened:
                ledger.complete(self.id, digest, known_by)
            else:
                ledger.record(self._entry(), digest, known_by)
            self._apply("ledger")

    @contextmanager
    def applying(self, layer: Layer) -> Iterator[None]:
        """A layer's own work: its time is taken, its failure is ProvenanceUnavailable or, at best effort, counted."""
        try:
            with self._timed(layer):
                yield
        except (LedgerUnavailable, C2paError) as error:
            self._count(layer, False)
            logger.error("generation %s got no %s: %s", self.id, layer, error)
            if self._provenance.required:
                raise ProvenanceUnavailable(
                    f"no answer goes out without its {_NAMES[layer]}, which failed"
                ) from error

    def _apply(self, layer: Layer) -> None:
        self.layers.append(layer)
        self._count(layer, True)

    def _marked_by(self, unmarked: Samples, work: Callable[[Marker], Samples]) -> Samples:
        if self._marker is None:
            samples = unmarked
        else:
            with self._timed("watermark"):  # arithmetic: it has no way to fail that is not a mistake of ours
                samples = work(self._marker)
        self._marked.append(samples)
        return samples

    @contextmanager
    def _timed(self, layer: Layer) -> Iterator[None]:
        started = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[layer] = self.seconds.get(layer, 0.0) + time.perf_counter() - started

    def _entry(self) -> Entry:
        origin = self._origin
        return Entry(
            id=self.id,
            created_at=datetime.now(UTC),
            bundle=f"{origin.model} {origin.model_version}",
            seed=origin.seed,
            parameters=dict(origin.parameters),
            payload=self.payload,
            start=origin.start,
            seconds=origin.seconds,
        )


def payload_of(secret: bytes, origin: Origin) -> int:
    """16 bits that follow from the request and tell nothing about it to whoever lacks the watermark's key."""
    described = json.dumps(
        [origin.model, origin.model_version, origin.seed, origin.seconds, dict(origin.parameters)]
    )
    digest = hashlib.sha256(np.ascontiguousarray(origin.prompt, "<f4").tobytes() + described.encode())
    return int.from_bytes(hmac.digest(secret, b"payload" + digest.digest(), "sha256")[:2], "big")
