"""Residual vector quantizer: each level codes what the levels before it left over.

As in SoundStream (arXiv 2107.03312). How codebooks are learnt is model/training/codebooks.py's business.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


def nearest(vectors: Tensor, codebook: Tensor) -> Tensor:
    """Index of the codebook row [C, D] nearest to each vector [N, D]: [N]."""
    scores = vectors @ codebook.T - 0.5 * codebook.square().sum(1)
    return scores.argmax(1)


class ResidualVectorQuantizer(nn.Module):
    """`num_codebooks` levels of `codebook_size` vectors of width `dim`."""

    codebooks: Tensor

    def __init__(self, num_codebooks: int, codebook_size: int, dim: int) -> None:
        super().__init__()
        self.register_buffer("codebooks", torch.randn(num_codebooks, codebook_size, dim) / dim**0.5)

    @property
    def num_codebooks(self) -> int:
        return self.codebooks.shape[0]

    def encode(self, latents: Tensor) -> Tensor:
        """latents [B, T, D] -> codes [B, K, T]."""
        residual = latents.flatten(0, 1).float()
        codes = []
        for codebook in self.codebooks:
            index = nearest(residual, codebook)
            residual = residual - codebook[index]
            codes.append(index.view(latents.shape[:2]))
        return torch.stack(codes, 1)

    def decode(self, codes: Tensor) -> Tensor:
        """codes [B, K', T], K' <= K -> latents [B, T, D]."""
        latents = self.codebooks[0][codes[:, 0]]
        for level in range(1, codes.shape[1]):
            latents = latents + self.codebooks[level][codes[:, level]]
        return latents
