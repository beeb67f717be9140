"""Layouts of tokens in time: the delay pattern, and the windows in which long outputs are made.

Delay pattern (MusicGen, arXiv 2306.05284): step n of a stage holds codebook k of frame n - k, so a frame's codebooks
are predicted one after another while the stage makes one step per frame. A grid [.., K, N] is codes [.., K, T] laid
out so; a sequence of T frames needs T + K - 1 steps, and the steps beyond its last frame hold codes of frames that are
dropped. Knows ids and counts, no model.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


def delay(codes: Tensor, num_steps: int, fill: int) -> Tensor:
    """Codes [.., K, T] -> grid [.., K, num_steps] with grid[k, n] = codes[k, n - k], `fill` where there is none."""
    levels, frames = codes.shape[-2:]
    grid = codes.new_full((*codes.shape[:-1], num_steps), fill)
    for k in range(levels):
        stop = min(num_steps, frames + k)
        grid[..., k, k:stop] = codes[..., k, : max(0, stop - k)]
    return grid


def undelay(grid: Tensor, num_frames: int) -> Tensor:
    """Grid [.., K, N] -> codes [.., K, num_frames], the inverse of `delay`; N >= num_frames + K - 1."""
    levels = grid.shape[-2]
    assert grid.shape[-1] >= num_frames + levels - 1
    return torch.stack([grid[..., k, k : k + num_frames] for k in range(levels)], dim=-2)


@dataclass(frozen=True)
class Window:
    """Frames [start, known) are given, frames [known, stop) are made; counted from the start of the prompt."""

    start: int
    known: int
    stop: int

    @property
    def history(self) -> int:
        return self.known - self.start

    @property
    def frames(self) -> int:
        return self.stop - self.start


def windows(prompt_frames: int, new_frames: int, max_frames: int, align: int = 1) -> list[Window]:
    """Windows of at most `max_frames` frames that make `new_frames` after a prompt.

    At most half of a window is history: a longer prompt is cut to its last frames. Every window but the last is full,
    and every window starts at a multiple of `align` (a prompt's length is one).
    """
    keep = max_frames // 2 // align * align
    longest = max_frames // align * align
    plan, known, end = [], prompt_frames, prompt_frames + new_frames
    while known < end:
        start = max(0, known - keep)
        stop = min(end, start + longest)
        plan.append(Window(start, known, stop))
        known = stop
    return plan


def growing_windows(prompt_frames: int, new_frames: int, max_frames: int, first: int) -> list[Window]:
    """As `windows`, but the first makes only `first` frames, and each later one at most twice as many as the one
    before: sound can leave early. New frames never look beyond their window, so a longer output begins the same, up
    to its last window. At most a quarter of a window is history, which costs as much as new frames."""
    keep = max_frames // 4
    plan, known, end, grow = [], prompt_frames, prompt_frames + new_frames, first
    while known < end:
        start = max(0, known - keep)
        grow = min(grow, max_frames - keep)
        stop = min(end, known + grow)
        plan.append(Window(start, known, stop))
        known, grow = stop, 2 * grow
    return plan
