"""How the codec's codebooks are learnt: residual k-means, level after level.

Knows no sound: vectors in, codebooks out.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from model.quantizer import ResidualVectorQuantizer, nearest

BLOCK = 32_768  # vectors compared with a codebook at once
RARE = 0.15  # of an even share of the vectors: a code that fewer choose is drawn anew
SETTLING = 3  # last iterations, in which only codes that nothing chooses are


@torch.no_grad()
def fit_codebooks(
    quantizer: ResidualVectorQuantizer, vectors: Tensor, rng: np.random.Generator, iterations: int = 10
) -> None:
    """Set every level's codebook by k-means on what the levels before it leave of vectors [N, D].

    Codes that few vectors choose restart on a random one: left alone, every second code of the later levels serves a
    handful of outliers.
    """
    residual = vectors.float()
    size = quantizer.codebooks.shape[1]

    def draw(count: int) -> Tensor:
        return residual[torch.from_numpy(rng.integers(len(residual), size=count)).to(residual.device)]

    for codebook in tqdm(quantizer.codebooks, desc="codebooks", unit="level", disable=None):
        codebook.copy_(draw(size))
        for iteration in range(iterations):
            index = _nearest_in_blocks(residual, codebook)
            counts = torch.bincount(index, minlength=size)
            means = torch.zeros_like(codebook).index_add_(0, index, residual) / counts.clamp_min(1)[:, None]
            least = RARE * len(residual) / size if iteration < iterations - SETTLING else 1
            rare = counts < least
            means[rare] = draw(int(rare.sum()))
            codebook.copy_(means)
        residual = residual - codebook[_nearest_in_blocks(residual, codebook)]


def _nearest_in_blocks(vectors: Tensor, codebook: Tensor) -> Tensor:
    return torch.cat([nearest(block, codebook) for block in torch.split(vectors, BLOCK)])
