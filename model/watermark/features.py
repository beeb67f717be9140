"""What of a clip could be a mark: how far each cell's level is from what its neighbors let expect.

Levels of neighboring cells tell most of a cell's level; the difference (by ridge regression, fitted on the clip
itself) is small enough for a mark of about a decibel to show in a few hundred cells. Decisions held here: a clip is
described once, and cheaply again for each warp (speed, tempo, pitch); bands far below the clip's level, where a
telephone or an encoder left nothing, are held down; no cell counts for more than twice the usual. Knows no key, so that
under "not marked" the signs of any key are independent of all this: the reason why p-values can be trusted.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from model.watermark.bands import CHIP_FRAMES, NUM_BANDS, band_means, first_bins, spectra

_POWER = 0.15  # between the mean of energies (1), which loud bins decide, and of their logarithms (0)
_FLOOR = 1e-6  # of the clip's mean energy
_RIDGE = 1.0  # times 1 % of the number of cells
_QUIETEST = 1.0  # dB: a band that is steadier than this is noise or nothing
_CLIP = 2.0  # standard deviations
_FITTED_ROWS = 4096
_REACH = 2 * CHIP_FRAMES  # frames to either side
_NEIGHBORS = tuple(
    [(shift, 0) for shift in (-2 * CHIP_FRAMES, -CHIP_FRAMES, CHIP_FRAMES, 2 * CHIP_FRAMES)]
    + [(0, band) for band in (-2, -1, 1, 2)]
    + [(shift, band) for shift in (-CHIP_FRAMES, CHIP_FRAMES) for band in (-1, 1)]
)

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Warp:
    """What may have happened to the clip: it lasts `duration` times as long, its frequencies are `pitch` times as
    high. Played faster by s: duration 1/s, pitch s."""

    duration: float = 1.0
    pitch: float = 1.0


class Features:
    """Of a clip [N] at 16 kHz."""

    def __init__(self, waveform: Floats) -> None:
        bins = spectra(waveform)
        power = np.square(bins.real) + np.square(bins.imag)
        floor = _FLOOR * float(power[:, first_bins()[0] : first_bins()[-1]].mean(dtype=np.float64)) + 1e-12
        self._bins: Floats = (power + np.float32(floor)) ** np.float32(_POWER)
        self._last: tuple[float, npt.NDArray[np.float64]] | None = (
            None  # one, for those of 10 minutes are large
        )
        self._weights = _fit(self._chips(Warp()))

    def scores(self, warp: Warp) -> Floats:
        """[n, 24]: chips that begin every 8 ms of the unwarped clip, in standard deviations, at most 2 of them."""
        chips = self._chips(warp)
        if len(chips) == 0:
            return chips
        rest = chips - _expected(chips, self._weights)
        spread = np.median(np.abs(rest[:: _stride(len(rest))]), axis=0) / 0.6745
        clipped: Floats = np.clip(rest / np.maximum(spread, _QUIETEST), -_CLIP, _CLIP).astype(np.float32)
        return clipped

    def _chips(self, warp: Warp) -> Floats:
        """[n, 24]: levels in dB, averaged over a chip, each band's mean taken away."""
        running = self._running_levels(warp.pitch)
        count = int((len(running) - 1) / warp.duration) + 1  # points on the unwarped clip's 8 ms grid
        if count <= CHIP_FRAMES:
            return np.zeros((0, NUM_BANDS), np.float32)
        place = np.arange(count) * warp.duration
        below = np.minimum(place.astype(np.int64), len(running) - 2)
        part = (place - below)[:, None]
        points = running[below] * (1 - part) + running[below + 1] * part
        chips = (points[CHIP_FRAMES:] - points[:-CHIP_FRAMES]) / (CHIP_FRAMES * warp.duration)
        centered: Floats = (chips - chips.mean(axis=0)).astype(np.float32)
        return centered

    def _running_levels(self, pitch: float) -> npt.NDArray[np.float64]:
        """[T + 1, 24]: sums of the levels of all frames before."""
        if self._last is None or self._last[0] != pitch:
            levels = np.log(self._bins @ band_means(pitch)) * np.float32(10 / np.log(10) / _POWER)
            sums = np.concatenate([np.zeros((1, NUM_BANDS)), np.cumsum(levels, axis=0, dtype=np.float64)])
            self._last = (pitch, sums)
        return self._last[1]


def _stride(rows: int) -> int:
    """Chips overlap by five sixths: every third says it all, and some thousands say enough."""
    return max(3, rows // _FITTED_ROWS)


def _fit(chips: Floats) -> Floats:
    """Weights [12] of the neighbors, the same for all bands."""
    padded = _padded(chips)
    rows = slice(None, None, _stride(len(chips)))
    inputs = np.stack([_shifted(padded, *neighbor)[rows].ravel() for neighbor in _NEIGHBORS], axis=1)
    target = chips[rows].ravel()
    penalty = _RIDGE * 0.01 * max(1, len(target)) * np.eye(len(_NEIGHBORS))
    return np.linalg.solve(inputs.T @ inputs + penalty, inputs.T @ target).astype(np.float32)


def _expected(chips: Floats, weights: Floats) -> Floats:
    padded = _padded(chips)
    total = np.zeros_like(chips)
    for neighbor, weight in zip(_NEIGHBORS, weights, strict=True):
        total += weight * _shifted(padded, *neighbor)
    return total


def _padded(chips: Floats) -> Floats:
    if len(chips) == 0:
        return np.zeros((2 * _REACH, NUM_BANDS + 4), np.float32)
    return np.pad(chips, ((_REACH, _REACH), (2, 2)), mode="edge")


def _shifted(padded: Floats, frames: int, bands: int) -> Floats:
    length = len(padded) - 2 * _REACH
    return padded[_REACH + frames : _REACH + frames + length, 2 + bands : 2 + bands + NUM_BANDS]
