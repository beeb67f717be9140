"""What a prompt is like as a whole: one vector, added to every step that follows it.

A stage sees the prompt's own frames too, but only as long as they are in its window, and learning to copy a voice from
frames takes far more training than learning to read an average. Frames are transformed before they are averaged
(arXiv 1703.06114), so the average tells more than the mean frame: how often each kind of frame occurs.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Style(nn.Module):
    """Embedded frames [B, T, C] -> [B, C]. Adds nothing before it is trained."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width, bias=False)
        self.inner = nn.Linear(width, width, bias=False)
        self.outer = nn.Linear(width, width, bias=False)
        nn.init.zeros_(self.outer.weight)

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        """Row b has lengths[b] frames; one without any has no style: zeros."""
        counted = torch.arange(x.shape[1], device=x.device) < lengths[:, None]  # (B, T)
        hidden = F.gelu(self.inner(self.norm(x)), approximate="tanh") * counted[..., None]
        out: Tensor = self.outer(hidden.float().sum(1) / lengths.clamp_min(1)[:, None])
        return out
