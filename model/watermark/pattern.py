"""What each cell (chip of 48 ms x mel band) carries: synchronization or a code bit, raised or lowered.

64 chips long, then it repeats. In every chip half of the bands, drawn from the key, carry known signs: the detector
aligns itself by them. The other half carry the 64 code bits in turn, so that 0.26 s hold each of them once.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from model.watermark.bands import NUM_BANDS
from model.watermark.code import CODE_BITS, encode
from model.watermark.key import WatermarkKey

PERIOD = 64  # chips
_SYNC_BANDS = NUM_BANDS // 2


@dataclass(frozen=True)
class Pattern:
    """One period. sync [64, 24]: +1, -1, or 0 where a code bit is; bits [64, 24]: its number, -1 where sync is;
    signs [64, 24]: +1 or -1 everywhere, by which a code bit is multiplied."""

    sync: npt.NDArray[np.float32]
    bits: npt.NDArray[np.int64]
    signs: npt.NDArray[np.float32]

    @classmethod
    def of(cls, key: WatermarkKey) -> Pattern:
        cells = PERIOD * NUM_BANDS
        signs = 1.0 - 2.0 * (key.draw("signs", cells) & 1).reshape(PERIOD, NUM_BANDS).astype(np.float32)
        order = np.argsort(key.draw("roles", cells).reshape(PERIOD, NUM_BANDS), axis=1, kind="stable")
        rows = np.arange(PERIOD)[:, None]
        sync = np.zeros((PERIOD, NUM_BANDS), np.float32)
        sync[rows, order[:, :_SYNC_BANDS]] = np.take_along_axis(signs, order[:, :_SYNC_BANDS], axis=1)
        carriers = NUM_BANDS - _SYNC_BANDS
        bits = np.full((PERIOD, NUM_BANDS), -1, np.int64)
        bits[rows, order[:, _SYNC_BANDS:]] = (carriers * rows + np.arange(carriers)) % CODE_BITS
        return cls(sync, bits, signs)

    def chips(self, payload: int) -> npt.NDArray[np.float32]:
        """[64, 24] of +1 and -1: the whole period with `payload` in it. Raises ConfigError."""
        word = encode(payload)
        return np.where(self.bits < 0, self.sync, self.signs * word[self.bits])


def start_of(key: WatermarkKey, payload: int) -> int:
    """The chip a generation begins with: another one for each payload, so that averaging the beginnings of many
    generations does not show the pattern."""
    return int(key.draw(f"start {payload}", 1)[0] % PERIOD)
