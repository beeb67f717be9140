"""Where a stage's table of codes starts: from the codec's own vectors, so that codes that sound alike start alike.

Every level goes through one random projection, so the sum of a frame's embeddings is a projection of its quantized
latent. Tied heads start from the same knowledge: a code next to the right one is a good second guess.
"""

from __future__ import annotations

import torch
from torch import Tensor

from model.stages import Stage

SPREAD = 0.02  # of a table entry, as of random ones
OWN = 0.3  # share of the spread that each code has to itself


@torch.no_grad()
def start_from_codebooks(stage: Stage, codebooks: Tensor) -> None:
    """Set the first rows of `stage.table` from the vectors of its levels, codebooks [K, V, D]."""
    levels = stage.none_row // stage.vocab_size
    dim, width = codebooks.shape[2], stage.table.weight.shape[1]
    projection = torch.randn(dim, width)
    rows = codebooks[:levels] @ projection  # (K, V, C)
    scale = rows.square().mean((1, 2), keepdim=True).sqrt()  # of each level: later ones are smaller
    rows = SPREAD * rows / (scale * scale[:1]).sqrt()  # half as many decibels smaller
    own = OWN * SPREAD * torch.randn(rows.shape)
    stage.table.weight[: stage.none_row] = (rows + own).flatten(0, 1)
