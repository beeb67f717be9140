"""What a prompt is like as a whole: one vector, added to every step that follows it.

A stage sees the prompt's own frames too, but only as long as they are in its window, and learning to copy a voice from
frames takes far more training than learning to read an average. Frames are transformed before they are averaged
(arXiv 1703.06114), so the average tells more than the mean frame: how often each kind of frame occurs; and, where each
frame is seen together with those before it, how often kinds of frames follow each other at which distance: a rhythm.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Style(nn.Module):
    """Embedded frames [B, T, C] -> [B, C]. Adds nothing before it is trained.

    frames: how many each is seen with, itself included; what is new in them begins as zero too, so that weights
    trained with a single one go on as they were.
    """

    def __init__(self, width: int, frames: int = 1) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width, bias=False)
        self.inner = nn.Linear(width, width, bias=False)
        self.outer = nn.Linear(width, width, bias=False)
        nn.init.zeros_(self.outer.weight)
        self.before = nn.Conv1d(width, width, frames - 1, groups=width, bias=False) if frames > 1 else None
        if self.before is not None:
            nn.init.zeros_(self.before.weight)

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        """Row b has lengths[b] frames; one without any has no style: zeros."""
        counted = torch.arange(x.shape[1], device=x.device) < lengths[:, None]  # (B, T)
        seen = self.inner(self.norm(x))
        if self.before is not None and x.shape[1]:
            taps = self.before.kernel_size[0]
            past = F.pad(seen.transpose(1, 2), (taps, 0))[..., :-1]  # (B, C, taps + T - 1)
            seen = seen + self.before(past).transpose(1, 2)
        hidden = F.gelu(seen, approximate="tanh") * counted[..., None]
        out: Tensor = self.outer(hidden.float().sum(1) / lengths.clamp_min(1)[:, None])
        return out
