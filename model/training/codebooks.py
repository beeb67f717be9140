"""How the codec's codebooks are learnt: k-means to start, then moving averages; gradients pass straight through.

Codes that fall out of use restart on a latent of the batch (SoundStream, arXiv 2107.03312). The averages live in a
module of their own, so that a checkpoint holds them and a bundle does not.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from model.quantizer import ResidualVectorQuantizer, nearest

DEAD = 0.05  # a code used less than this share of its fair share restarts


class Quantized(NamedTuple):
    """latents [B, T, D] after quantization (straight-through), codes [B, K, T], commitment: scalar loss."""

    latents: Tensor
    codes: Tensor
    commitment: Tensor


class CodebookLearner(nn.Module):
    """Quantizes for training and moves the codebooks of `quantizer` along."""

    usage: Tensor
    sums: Tensor

    def __init__(self, quantizer: ResidualVectorQuantizer, pace: float = 0.02) -> None:
        super().__init__()
        self.pace = pace  # share of the averages that a step replaces
        self._quantizer = [quantizer]  # in a list: its weights are the codec's, not this module's
        self.register_buffer("usage", torch.ones(quantizer.codebooks.shape[:2]))
        self.register_buffer("sums", quantizer.codebooks.clone())

    @torch.no_grad()
    def fit(self, vectors: Tensor, rng: np.random.Generator, iterations: int = 8) -> None:
        """Start every level by k-means on what the levels before it leave of `vectors` [N, D]."""
        residual = vectors.float()
        codebooks = self._quantizer[0].codebooks
        size = codebooks.shape[1]
        for level in range(len(codebooks)):
            codebook = residual[torch.from_numpy(rng.permutation(len(residual))[:size])].clone()
            for _ in range(iterations):
                index = nearest(residual, codebook)
                counts = torch.bincount(index, minlength=size)
                sums = torch.zeros_like(codebook).index_add_(0, index, residual)
                codebook = torch.where(counts[:, None] > 0, sums / counts.clamp_min(1)[:, None], codebook)
                empty = (counts == 0).nonzero().flatten()
                codebook[empty] = residual[torch.from_numpy(rng.permutation(len(residual))[: len(empty)])]
            index = nearest(residual, codebook)
            self.usage[level] = torch.bincount(index, minlength=size) / (len(residual) / size)
            self.sums[level] = codebook * self.usage[level][:, None]
            codebooks[level] = codebook
            residual = residual - codebook[index]

    def forward(self, latents: Tensor, depths: Tensor, rng: np.random.Generator) -> Quantized:
        """Quantize latents [B, T, D]; row b keeps its first `depths[b]` levels (quantizer dropout)."""
        batch, frames, dim = latents.shape
        residual = latents.detach().float().reshape(-1, dim)
        depth_of = depths.repeat_interleave(frames)  # (B T,)
        total = torch.zeros_like(residual)
        codes = []
        for level, codebook in enumerate(self._quantizer[0].codebooks):
            index = nearest(residual, codebook)
            chosen = codebook[index]
            active = depth_of > level
            if self.training:
                self._follow(level, residual[active], index[active], rng)
            total = total + chosen * active[:, None]
            residual = residual - chosen
            codes.append(index.view(batch, frames))
        total = total.view(batch, frames, dim)
        commitment = (latents.float() - total).square().mean()
        straight = latents + (total - latents).detach()
        return Quantized(straight, torch.stack(codes, 1), commitment)

    @torch.no_grad()
    def _follow(self, level: int, vectors: Tensor, index: Tensor, rng: np.random.Generator) -> None:
        if not len(vectors):
            return
        usage, sums = self.usage[level], self.sums[level]
        size = len(usage)
        fair = len(vectors) / size  # vectors a code would get if all were used alike; usage is counted in it
        usage.lerp_(torch.bincount(index, minlength=size) / fair, self.pace)
        sums.lerp_(torch.zeros_like(sums).index_add_(0, index, vectors) / fair, self.pace)
        dead = (usage < DEAD).nonzero().flatten()[: len(vectors)]
        if len(dead):
            picks = torch.from_numpy(rng.integers(len(vectors), size=len(dead))).to(vectors.device)
            usage[dead] = 1.0
            sums[dead] = vectors[picks]
        self._quantizer[0].codebooks[level] = sums / usage[:, None]
