"""How due a stroke is: counted quickly, and counted as the words say."""

from __future__ import annotations

import itertools

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from model.pulse import INTERVALS, LEVELS, LONGEST, NUM_ROWS, SHARES, SHIFTS, pulse_rows


def counted(struck: list[bool], step: int) -> list[int]:
    """Rows of one step, one thing after the other."""
    strokes = [frame for frame in range(step) if struck[frame]]
    if not strokes:
        return [0, *(1 + LONGEST + place * LEVELS for place in range(3))]
    since = step - strokes[-1]
    intervals = [late - early for early, late in itertools.pairwise(strokes)][-INTERVALS:]
    rows = [min(since, LONGEST)]
    for place, shift in enumerate(SHIFTS):
        same = sum(interval == since + shift for interval in intervals)
        least = sum(interval >= since + shift for interval in intervals)
        level = (2 + SHARES * same // least if least else 1) if intervals else 0
        rows.append(1 + LONGEST + place * LEVELS + level)
    return rows


@given(st.integers(0, 2**32 - 1), st.sampled_from([0.0, 0.02, 0.1, 0.5, 1.0]))
def test_rows_are_those_of_counting_one_after_the_other(seed: int, share: float) -> None:
    rng = np.random.default_rng(seed)
    struck = rng.random((3, 130)) < share
    steps = np.stack([rng.permutation(130)[:40] for _ in range(3)])
    rows = pulse_rows(torch.from_numpy(struck), torch.from_numpy(steps))
    assert rows.tolist() == [
        [counted(row.tolist(), int(step)) for step in own] for row, own in zip(struck, steps, strict=True)
    ]
    assert 0 <= int(rows.min()) <= int(rows.max()) < NUM_ROWS


def test_a_steady_beat_is_due_when_it_comes() -> None:
    struck = torch.zeros(1, 60, dtype=torch.bool)
    struck[0, ::12] = True
    due = pulse_rows(struck, torch.arange(60)[None])[0, :, 2] - (1 + LONGEST + LEVELS) - 2  # tenths, now
    assert due[24:].eq(SHARES).nonzero().flatten().tolist() == [0, 12, 24]
    assert int((due[24:] > 0).sum()) == 3
