"""Which chips of a clip carry a mark whose place and payload are known.

A chip speaks for the mark by its log likelihood ratio; the segments are the likeliest way through two states, marked
and not, where each change costs so much that chance alone seldom pays it (Viterbi 1967). Knows no key.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

_FALSE_SEGMENTS = 5e-4  # expected by chance in a clip
_SILENT = 0.5  # how far a silent chip speaks against the mark: 1 tears speech at its pauses, 0 takes in the prompt's

Floats = npt.NDArray[np.float32]


def marked_chips(agreement: Floats, energy: Floats, first: int, last: int) -> list[tuple[int, int]]:
    """Runs (first, last + 1) of marked chips.

    agreement [K]: each chip's scores times the expected signs, summed; energy [K]: the sum of their squares. Chips
    `first` to `last` - 1 are taken as marked to learn how strong the mark is here.
    """
    usual = float(energy[first:last].mean()) + 1e-6
    strength = max(float(agreement[first:last].mean()) / usual, 1e-3)
    expected = _SILENT * usual + (1 - _SILENT) * energy  # of a marked chip
    gains = strength * agreement - strength**2 / 2 * expected
    cost = math.log(max(2, len(agreement)) / _FALSE_SEGMENTS) / 2
    return _runs(_path(gains.astype(np.float64), cost))


def _path(gains: npt.NDArray[np.float64], cost: float) -> list[bool]:
    """The states that maximize the gains of the marked chips less `cost` for each change; the ends are free."""
    plain = marked = 0.0
    from_marked, from_plain = [], []
    for gain in gains.tolist():
        from_marked.append(marked - cost > plain)
        from_plain.append(plain - cost > marked)
        plain, marked = max(plain, marked - cost), max(marked, plain - cost) + gain
    state = marked > plain
    states = []
    for leave, enter in zip(reversed(from_marked), reversed(from_plain), strict=True):
        states.append(state)
        state = not enter if state else leave
    return states[::-1]


def _runs(states: list[bool]) -> list[tuple[int, int]]:
    bounded = np.diff(np.array([False, *states, False], np.int8))
    return list(zip(np.flatnonzero(bounded > 0).tolist(), np.flatnonzero(bounded < 0).tolist(), strict=True))
