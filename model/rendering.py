"""Codes to the samples that are returned: decoding in spans, and the seam between a prompt and its continuation.

Any span of frames is decoded with as much context as the codec looks at, so sound that leaves in pieces equals sound
decoded at once. Knows tokens of no other stage.
"""

from __future__ import annotations

import torch
from torch import Tensor

from model.codec import Codec

SPAN_FRAMES = 250  # 5 s: bounds the memory of decoding long sound
SEAM_SAMPLES = 128  # 8 ms over which the continuation is eased into the prompt's waveform
JUMP_QUANTILE = 0.999
ROUNDING = 2 / 32768  # what writing 16 bits may add to a difference


@torch.inference_mode()
def render_span(codec: Codec, codes: Tensor, start: int, stop: int) -> Tensor:
    """codes [B, K, T] -> samples [B, (stop - start) * hop_length] of the frames start..stop, in their context."""
    first = max(0, start - codec.context_frames)
    last = min(codes.shape[2], stop + codec.context_frames)
    waveform = codec.decode(codes[:, :, first:last])
    return waveform[:, (start - first) * codec.hop_length : (stop - first) * codec.hop_length]


def render(codec: Codec, codes: Tensor, start: int = 0) -> Tensor:
    """codes [B, K, T] -> samples [B, (T - start) * hop_length] of the frames from `start` on, span by span."""
    spans = [
        render_span(codec, codes, first, min(first + SPAN_FRAMES, codes.shape[2]))
        for first in range(start, codes.shape[2], SPAN_FRAMES)
    ]
    return torch.cat(spans, 1)


def largest_jump(prompt: Tensor) -> float:
    """The sample-to-sample difference that only one in a thousand of `prompt` [N] exceeds."""
    jumps = prompt.diff().abs()
    return float(jumps.kthvalue(1 + int(JUMP_QUANTILE * (jumps.numel() - 1))).values)


def ease_seam(prompt: Tensor, decoded: Tensor, continuation: Tensor) -> Tensor:
    """Fit the first samples of `continuation` [M] to the end of the true `prompt` [N], without a click.

    `decoded` [D] is the codec's version of the prompt's last samples. Its error there, mirrored, is added to the
    continuation and fades out, so that the waveform goes on from the prompt as the codec's own goes on; what jump is
    then left above the prompt's own jumps fades with it. Samples after SEAM_SAMPLES are unchanged.
    """
    length = min(SEAM_SAMPLES, decoded.shape[0], continuation.shape[0])
    error = (prompt[-length:] - decoded[-length:]).flip(0)
    correction = error * _fade(length, continuation)
    jump = float(continuation[0] + correction[0] - prompt[-1])
    limit = max(0.0, largest_jump(prompt) - ROUNDING)
    offset = max(-limit, min(limit, jump)) - jump
    correction = correction + offset * _fade(length, continuation)
    return torch.cat([continuation[:length] + correction, continuation[length:]])


def _fade(length: int, like: Tensor) -> Tensor:
    """Half a cosine from 1 towards 0, [length]."""
    steps = torch.arange(length, device=like.device, dtype=like.dtype) / length
    return 0.5 + 0.5 * torch.cos(torch.pi * steps)
