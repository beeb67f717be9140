"""The sound of an answer: the prompt's own samples, then the generated ones, marked, as a file, sealed.

Whole, or piece by piece while it is made; both hold the same samples, and in either the prompt's are untouched. Only a
whole file can be signed. Blocks; belongs on the pool of audio threads.
"""

from __future__ import annotations

import hashlib

import numpy as np

from service.encoding import Format, Samples, encode, open_encoder
from service.provenance import Generation


def whole_answer(
    generation: Generation,
    lead: Samples,
    made: Samples,
    format: Format,
    bit_depth: int,
    parent: bytes | None,
) -> bytes:
    """`lead` [N] and the generated samples `made` [M] as one file; `parent` is what it keeps of the uploaded clip.

    Raises ProvenanceUnavailable."""
    samples = np.concatenate([lead, generation.mark(made), generation.finish()])
    return generation.seal(encode(samples, format, bit_depth), format, parent)


class LiveAnswer:
    """The same while the generated samples, `num_samples` in all, are being made."""

    def __init__(
        self, generation: Generation, lead: Samples, num_samples: int, format: Format, bit_depth: int
    ) -> None:
        self._generation = generation
        self._lead = lead
        self._left = num_samples
        self._encoder = open_encoder(format, len(lead) + num_samples, bit_depth)
        self._digest = hashlib.sha256()

    @property
    def num_bytes(self) -> int | None:
        """Bytes of the whole answer, where the format tells."""
        return self._encoder.num_bytes

    def piece(self, chunk: Samples) -> bytes:
        """What can leave once `chunk` [n] is made, possibly nothing. With the last of them the answer is in the ledger
        before this returns; raises ProvenanceUnavailable if it could not be entered."""
        self._left -= len(chunk)
        assert self._left >= 0
        data = self._encoder.feed(np.concatenate([self._lead, self._generation.mark(chunk)]))
        self._lead = self._lead[:0]
        if self._left == 0:
            data += self._encoder.feed(self._generation.finish()) + self._encoder.close()
        self._digest.update(data)
        if self._left == 0:
            self._generation.record(self._digest.digest())
        return data


def open_answer(
    generation: Generation, lead: Samples, num_samples: int, format: Format, bit_depth: int, first: Samples
) -> tuple[LiveAnswer, bytes]:
    """An answer that begins with the chunk `first`, and what can leave at once. By then the ledger has its row.

    Raises ProvenanceUnavailable."""
    generation.open()
    answer = LiveAnswer(generation, lead, num_samples, format, bit_depth)
    return answer, answer.piece(first)
