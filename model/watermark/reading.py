"""What a pattern says where its place in the clip is known: the payload, and which chips carry it.

Knows no search: it is given a `Hit`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from model.watermark.bands import CHIP_FRAMES
from model.watermark.code import CODE_BITS, Word, codebook, decode
from model.watermark.pattern import PERIOD, Pattern
from model.watermark.search import Hit
from model.watermark.segments import marked_chips

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Reading:
    """The likeliest word at a hit. z: correlation of all cells with it, in standard deviations."""

    word: Word
    z: float


def read(scores: Floats, pattern: Pattern, hit: Hit) -> Reading:
    """scores [n, 24] -> the payload in the window of `hit`."""
    chips, columns = _aligned(scores, hit)
    chips, columns = chips[hit.first : hit.last], columns[hit.first : hit.last]
    bits, signs = pattern.bits[columns], pattern.signs[columns]
    carries = bits >= 0
    soft = np.bincount(bits[carries], weights=(chips * signs)[carries], minlength=CODE_BITS)
    sync = float((chips * pattern.sync[columns]).sum())
    energy = float(np.square(chips).sum()) + 1e-6
    word = decode(soft.astype(np.float32), scale=max(0.0, 2 * sync / energy))
    return Reading(word, (sync + word.correlation) / math.sqrt(energy))


def stretches(scores: Floats, pattern: Pattern, hit: Hit, word: Word) -> list[tuple[int, int]]:
    """Runs (first, last + 1) of chips that carry `word` at the alignment of `hit`, inside its window or not."""
    chips, columns = _aligned(scores, hit)
    bits = pattern.bits[columns]
    signs = np.where(bits < 0, pattern.sync[columns], pattern.signs[columns] * codebook()[word.payload][bits])
    return marked_chips((chips * signs).sum(axis=1), np.square(chips).sum(axis=1), hit.first, hit.last)


def _aligned(scores: Floats, hit: Hit) -> tuple[Floats, npt.NDArray[np.int64]]:
    """Chips [K, 24] at the phase of `hit`, and the pattern's column of each [K]."""
    chips = scores[hit.phase :: CHIP_FRAMES]
    return chips, (hit.column + np.arange(len(chips))) % PERIOD
