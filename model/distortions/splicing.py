"""Cutting and pasting: a crop, a piece of the clip inside another recording, the clip beside another one.

Decisions held here: what the clip is put into has its loudness, and joints fade over 10 ms. `splice` says where the
clip came to lie, for those who measure segments. Other recordings come from a pool that the caller gives.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from model.distortions.distortion import SAMPLE_RATE, Distortion, Waveform, level_of
from model.distortions.noise import excerpt

FADE = SAMPLE_RATE // 100


def crop(waveform: Waveform, seconds: float, rng: np.random.Generator) -> Waveform:
    """A random piece of `seconds`; all of it when it is shorter."""
    length = min(len(waveform), round(seconds * SAMPLE_RATE))
    start = int(rng.integers(len(waveform) - length + 1))
    return waveform[start : start + length].copy()


def splice(waveform: Waveform, host: Waveform, start: int) -> tuple[Waveform, tuple[int, int]]:
    """`host` [M] with its samples from `start` on replaced by waveform [N], and the span [start, stop) of those.

    The host takes on the waveform's loudness; what of the waveform does not fit is left out.
    """
    own = level_of(host)
    out = host * np.float32(level_of(waveform) / own if own > 0 else 1.0)
    stop = min(len(out), start + len(waveform))
    weight = np.ones(stop - start, np.float32)
    ramp = np.linspace(0, 1, min(FADE, len(weight) // 2), dtype=np.float32)
    if start > 0:
        weight[: len(ramp)] = ramp
    if stop < len(out):
        weight[len(weight) - len(ramp) :] = ramp[::-1]
    out[start:stop] = weight * waveform[: stop - start] + (1 - weight) * out[start:stop]
    return out, (start, stop)


@dataclass(frozen=True)
class Crop(Distortion):
    """A random piece of the clip, `share` of its length."""

    share: float
    keeps_length = False

    def apply(self, waveform: Waveform, rng: np.random.Generator) -> Waveform:
        return crop(waveform, self.share * len(waveform) / SAMPLE_RATE, rng)


@dataclass(frozen=True)
class Splice(Distortion):
    """A piece of the clip somewhere inside `total_seconds` of another recording."""

    pool: Sequence[Waveform]
    seconds: float
    total_seconds: float
    keeps_length = False

    def apply(self, waveform: Waveform, rng: np.random.Generator) -> Waveform:
        piece = crop(waveform, self.seconds, rng)
        host = excerpt(self.pool, max(len(piece), round(self.total_seconds * SAMPLE_RATE)), rng)
        return splice(piece, host, int(rng.integers(len(host) - len(piece) + 1)))[0]


@dataclass(frozen=True)
class Concatenation(Distortion):
    """As much of another recording before the clip as the clip is long."""

    pool: Sequence[Waveform]
    keeps_length = False

    def apply(self, waveform: Waveform, rng: np.random.Generator) -> Waveform:
        host = excerpt(self.pool, 2 * len(waveform), rng)
        return splice(waveform, host, len(waveform))[0]
