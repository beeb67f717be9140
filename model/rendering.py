"""Codes to the samples that are returned: where sound is cut, and the seam between a prompt and its continuation.

Sound is made cut by cut, each going on from the samples before it. Where the cuts lie depends on lengths alone, so
sound that leaves in pieces equals sound made at once. Knows tokens of no other stage.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import torch
from torch import Tensor

from model.codec import Codec
from model.tokens import Window

SEAM_SAMPLES = 128  # 8 ms over which a jump at the seam fades
JUMP_QUANTILE = 0.999
ROUNDING = 2 / 32768  # what writing 16 bits may add to a difference


class Cut(NamedTuple):
    """Sound of frames [start, end), decoded from frames [first, last)."""

    first: int
    start: int
    end: int
    last: int


def cuts_of(fine: Iterable[Window], frames: int, start: int, context_frames: int) -> tuple[Cut, ...]:
    """Sound from frame `start` on, cut where each fine window lets a decoder with `context_frames` go."""
    cuts = []
    for window in fine:
        end = frames if window.stop == frames else window.stop - context_frames
        if end > start:
            cuts.append(Cut(max(0, start - context_frames), start, end, min(frames, end + context_frames)))
            start = end
    return tuple(cuts)


@torch.inference_mode()
def render_cut(codec: Codec, codes: Tensor, cut: Cut, past: Tensor) -> Tensor:
    """codes [B, K, last - first] of one cut -> its samples [B, (end - start) * hop_length] in -1..1.

    past [B, P]: the samples before frame `cut.start`.
    """
    return codec.decode(codes, cut.start - cut.first, cut.end - cut.first, past).clamp(-1, 1)


@torch.inference_mode()
def render(codec: Codec, codes: Tensor, cuts: Iterable[Cut], past: Tensor) -> Tensor:
    """codes [B, K, T] -> the samples of all `cuts` [B, N], which follow each other and past [B, P]."""
    known = past.shape[1]
    for cut in cuts:
        before = past[:, -codec.past_samples :]
        past = torch.cat([past, render_cut(codec, codes[:, :, cut.first : cut.last], cut, before)], 1)
    return past[:, known:]


def largest_jump(prompt: Tensor) -> float:
    """The sample-to-sample difference that only one in a thousand of `prompt` [N] exceeds."""
    jumps = prompt.diff().abs()
    return float(jumps.kthvalue(1 + int(JUMP_QUANTILE * (jumps.numel() - 1))).values)


def ease_seam(prompt: Tensor, continuation: Tensor) -> Tensor:
    """`continuation` [M] without a click after the true `prompt` [N].

    What its first sample jumps above the prompt's own jumps fades out; samples after SEAM_SAMPLES are unchanged.
    """
    length = min(SEAM_SAMPLES, continuation.shape[0])
    jump = float(continuation[0] - prompt[-1])
    limit = max(0.0, largest_jump(prompt) - ROUNDING)
    offset = max(-limit, min(limit, jump)) - jump
    steps = torch.arange(length, device=continuation.device) / length
    fade = 0.5 + 0.5 * torch.cos(torch.pi * steps)  # from 1 towards 0
    return torch.cat([continuation[:length] + offset * fade, continuation[length:]])
