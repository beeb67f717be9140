"""Where in a clip a key's pattern lies, if anywhere, and how surprising that would be by chance.

For every alignment of the pattern with the clip (64 chips x 6 frames) and every window of 0.77 s, 1.15 s, 1.5 s,
2.3 s ... up to the whole clip: the correlation of scores and signs over its standard deviation under random signs. A
key's signs are random and independent of an unmarked clip, so that this is a standard normal number whatever the clip
is; what is left to correct for is how many of them were looked at. They overlap, so that they count as fewer than they
are: as many as a smooth random field has peaks, in proportion to z squared (Rice 1945), with a factor that was
measured (`audiolm evaluate provenance` prints how far p-values are from uniform).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from model.watermark.bands import CHIP_FRAMES
from model.watermark.pattern import PERIOD, Pattern

SHORTEST = 16  # chips: the shortest window
PEAKS = 0.0125  # times z squared: the share of windows that count
_STEPS = 8  # windows overlap by all but 1/8
_STEADY = 1.0  # energy, so that an empty window has none

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Hit:
    """Chips `first` to `last` - 1 of those that begin at frames phase, phase + 6, ...; chip k is column
    (column + k) % 64 of the pattern. z: its correlation in standard deviations. looked_at: windows in this search."""

    z: float
    phase: int
    column: int
    first: int
    last: int
    looked_at: int

    @property
    def p_value(self) -> float:
        return p_value(self.z, self.looked_at)


def best_hit(scores: Floats, pattern: Pattern) -> Hit:
    """The most surprising window of scores [n, 24]; of a clip shorter than 0.77 s, one with z = 0."""
    best, where, looked_at = 0.0, (0, 0, 0, 0), 0
    num_chips = len(scores) // CHIP_FRAMES
    if num_chips >= SHORTEST:
        sums, energies = _running(scores[: num_chips * CHIP_FRAMES], pattern)
        for length, step in _windows(num_chips):
            starts = np.arange(0, num_chips - length + 1, step)
            energy = energies[:, starts + length] - energies[:, starts]  # (6, starts)
            z = sums[:, starts + length] - sums[:, starts]  # (6, starts, 64)
            z /= np.sqrt(energy + _STEADY)[:, :, None]
            looked_at += z.size
            top = int(np.argmax(z))
            phase, start, column = np.unravel_index(top, z.shape)
            if z[phase, start, column] > best:
                best = float(z[phase, start, column])
                where = (int(phase), int(column), int(starts[start]), int(starts[start]) + length)
    return Hit(best, *where, looked_at)


def _windows(num_chips: int) -> Iterator[tuple[int, int]]:
    """(length, step) in chips."""
    length, longer = SHORTEST, SHORTEST + SHORTEST // 2
    while length < num_chips:
        yield length, max(1, length // _STEPS)
        length, longer = longer, 2 * length
    yield num_chips, 1


def _running(scores: Floats, pattern: Pattern) -> tuple[Floats, Floats]:
    """Sums over the chips before: correlations [6, K + 1, 64 columns] and their variances [6, K + 1]."""
    num_chips = len(scores) // CHIP_FRAMES
    cycles = -(-num_chips // PERIOD)
    chips = scores.reshape(num_chips, CHIP_FRAMES, -1).transpose(1, 0, 2)  # (6, K, 24)
    columns = chips @ pattern.sync.T  # (6, K, 64)
    twice = np.zeros((CHIP_FRAMES, cycles * PERIOD, 2 * PERIOD), np.float32)
    twice[:, :num_chips, :PERIOD] = columns
    twice[:, :num_chips, PERIOD:] = columns
    item, row = twice.itemsize, 2 * PERIOD * twice.itemsize
    aligned = np.lib.stride_tricks.as_strided(  # [.., k, c] = correlation of chip k with column c + k
        twice,
        (CHIP_FRAMES, cycles, PERIOD, PERIOD),
        (cycles * PERIOD * row, PERIOD * row, row + item, item),
    ).reshape(CHIP_FRAMES, cycles * PERIOD, PERIOD)
    sums = np.zeros((CHIP_FRAMES, num_chips + 1, PERIOD), np.float32)
    np.cumsum(aligned[:, :num_chips], axis=1, out=sums[:, 1:])
    share = np.float32(np.abs(pattern.sync).mean())  # of cells that carry a sign of the pattern
    variances = np.zeros((CHIP_FRAMES, num_chips + 1), np.float32)
    np.cumsum(share * np.square(chips).sum(axis=2), axis=1, out=variances[:, 1:])
    return sums, variances


def p_value(z: float, looked_at: float) -> float:
    """Chance that the best of so many windows of an unmarked clip reaches `z`."""
    if looked_at <= 0:
        return 1.0
    log_single = math.log(math.erfc(z / math.sqrt(2)) / 2) if z < 35 else -(z * z) / 2 - math.log(2.5 * z)
    counted = max(1.0, min(1.0, PEAKS * z * z) * looked_at)
    log_expected = log_single + math.log(counted)
    return -math.expm1(-math.exp(min(log_expected, 700.0)))
