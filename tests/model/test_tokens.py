"""Layouts in time: the delay pattern and the windows."""

from __future__ import annotations

from itertools import pairwise

import torch
from hypothesis import given
from hypothesis import strategies as st

from model.tokens import Window, delay, growing_windows, undelay, windows


def test_delay_moves_each_codebook_one_step_further() -> None:
    codes = torch.arange(6).view(1, 2, 3) + 1
    assert delay(codes, 4, 0).tolist() == [[[1, 2, 3, 0], [0, 4, 5, 6]]]
    assert delay(codes, 2, 0).tolist() == [[[1, 2], [0, 4]]]


@given(st.integers(1, 6), st.integers(1, 12), st.integers(0, 4))
def test_undelay_reverses_delay(codebooks: int, frames: int, more: int) -> None:
    codes = torch.arange(2 * codebooks * frames).view(2, codebooks, frames)
    assert torch.equal(undelay(delay(codes, frames + codebooks - 1 + more, -1), frames), codes)


@given(st.integers(0, 400), st.integers(1, 700), st.integers(8, 150), st.booleans())
def test_windows_make_every_frame_once_and_never_exceed_the_crop(
    prompt: int, new: int, longest: int, even: bool
) -> None:
    align = 2 if even else 1
    prompt = prompt // align * align
    plan = windows(prompt, new, longest, align)
    assert plan[0].known == prompt and plan[-1].stop == prompt + new
    for window in plan:
        assert window.start % align == 0
        assert window.start < window.stop and window.frames <= longest
        assert window.history <= longest // 2
        assert window.known < window.stop
    assert all(a.stop == b.known for a, b in pairwise(plan))
    assert all(w.frames > longest - align for w in plan[:-1])


def test_a_short_prompt_is_kept_whole() -> None:
    assert windows(30, 20, 100) == [Window(0, 30, 50)]
    assert windows(80, 70, 100) == [Window(30, 80, 130), Window(80, 130, 150)]


@given(st.integers(0, 400), st.integers(1, 700), st.integers(4, 200), st.integers(1, 30))
def test_growing_windows_double_up_to_most_of_the_crop(
    prompt: int, new: int, longest: int, first: int
) -> None:
    plan = growing_windows(prompt, new, longest, first)
    assert plan[0].known == prompt and plan[-1].stop == prompt + new
    assert all(a.stop == b.known for a, b in pairwise(plan))
    made = [window.stop - window.known for window in plan]
    most = longest - longest // 4
    assert all(window.frames <= longest and window.history <= longest // 4 for window in plan)
    assert made[:-1] == [min(first * 2**i, most) for i in range(len(made) - 1)]
    longer = growing_windows(prompt, new + 50, longest, first)
    assert longer[: len(plan) - 1] == plan[:-1]
