"""Drawing ids from logits, row by row: a row's outcome depends on its own logits, settings and noise key only.

The noise is a counter-based hash of (seed, stage, step, codebook), so it needs no state, is the same on every device,
and does not know who else is in the batch. One uniform number per draw, put through the inverse of the cumulative
distribution. Vectorized over rows, without host synchronization (it can be part of a captured graph).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from model.native.kernels import draw
from model.native.library import library

MASK = 0xFFFFFFFF  # 32-bit arithmetic in int64, which every device has


def _mix(x: Tensor) -> Tensor:
    """A bijection of 32-bit integers in which every input bit moves every output bit (lowbias32, Chris Wellons)."""
    x = ((x ^ (x >> 16)) * 0x7FEB352D) & MASK
    x = ((x ^ (x >> 15)) * 0x846CA68B) & MASK
    return x ^ (x >> 16)


def noise_key(seeds: Tensor, stage: int) -> Tensor:
    """One key per row, [B] int64, of 64-bit `seeds` [B]; computed once per sequence and stage."""
    low = _mix((seeds & MASK) ^ 0x9E3779B9)
    high = _mix(((seeds >> 32) & MASK) ^ low)
    return _mix((high + 0x632BE5AB * (stage + 1)) & MASK)


def uniform_noise(keys: Tensor, steps: Tensor, num_codebooks: int) -> Tensor:
    """Uniform numbers in [0, 1), [B, num_codebooks] float64, for `keys` [B] at `steps` [B] >= 0."""
    rows = _mix((keys + steps * 0x85EBCA77) & MASK)
    codebooks = torch.arange(1, num_codebooks + 1, device=keys.device) * 0x27D4EB2F
    return _mix(rows[:, None] ^ (codebooks & MASK)).double() / (MASK + 1)


@dataclass(frozen=True)
class Sampling:
    """How the rows of one stage draw. temperature [B, 1] float32, or [B, K] for one of each codebook (0: the most
    likely id); keys [B] from `noise_key`; top_k [B] int64 and top_p [B] float32 are None when no row uses them, and 0
    or 1.0 in rows that do not."""

    temperature: Tensor
    keys: Tensor
    top_k: Tensor | None = None
    top_p: Tensor | None = None

    @classmethod
    def of(
        cls,
        seeds: Sequence[int],
        stage: int,
        *,
        temperature: float | Sequence[float],
        top_k: int | None = None,
        top_p: float | None = None,
        device: torch.device | str = "cpu",
    ) -> Sampling:
        """The same settings for every row, one seed each; temperature: of all codebooks, or of each."""
        rows = len(seeds)
        wrapped = [(seed + 2**63) % 2**64 - 2**63 for seed in seeds]
        return cls(
            torch.tensor(temperature, dtype=torch.float32, device=device).view(1, -1).repeat(rows, 1),
            noise_key(torch.tensor(wrapped, device=device), stage),
            None if top_k is None else torch.full((rows,), top_k, device=device),
            None if top_p is None else torch.full((rows,), top_p, device=device),
        )

    def repeat(self, times: int) -> Sampling:
        """Every row's settings `times` times in a row."""
        return Sampling(
            self.temperature.repeat_interleave(times, 0),
            self.keys.repeat_interleave(times),
            None if self.top_k is None else self.top_k.repeat_interleave(times),
            None if self.top_p is None else self.top_p.repeat_interleave(times),
        )

    def row(self, index: int) -> Sampling:
        """The settings of one row, as a batch of one."""
        at = slice(index, index + 1)
        kept = (None if x is None else x[at] for x in (self.top_k, self.top_p))
        return Sampling(self.temperature[at], self.keys[at], *kept)


def sample(logits: Tensor, sampling: Sampling, steps: Tensor) -> Tensor:
    """Ids [B, K] drawn from logits [B, K, V] at `steps` [B] (counted from the start of the continuation)."""
    if logits.device.type == "cpu" and library() is not None:
        return draw(logits, sampling, steps, None)
    return sample_by_tensors(logits, uniform_noise(sampling.keys, steps, logits.shape[1]), sampling)


def sample_with(logits: Tensor, noise: Tensor, sampling: Sampling) -> Tensor:
    """As `sample`, with the noise [B, K] given."""
    if logits.device.type == "cpu" and library() is not None:
        return draw(logits, sampling, None, noise)
    return sample_by_tensors(logits, noise, sampling)


def sample_by_tensors(logits: Tensor, noise: Tensor, sampling: Sampling) -> Tensor:
    """As `sample_with`, on any device."""
    logits = logits.float()
    temperature = sampling.temperature[..., None]
    weights = torch.softmax(logits / temperature.clamp_min(1e-4), dim=-1)
    if sampling.top_k is not None or sampling.top_p is not None:
        weights = weights * _allowed(weights, sampling)
    cumulative = weights.double().cumsum(-1)
    drawn = (cumulative <= noise[..., None] * cumulative[..., -1:]).sum(-1)
    return torch.where(sampling.temperature > 0, drawn, logits.argmax(-1))


def _allowed(weights: Tensor, sampling: Sampling) -> Tensor:
    """Mask [B, K, V] of the ids within top-k and top-p; ids as likely as the last one allowed are allowed too."""
    ranked = weights.sort(dim=-1, descending=True).values
    least = torch.zeros_like(ranked[..., :1])
    if sampling.top_k is not None:
        last = (
            torch.where(sampling.top_k > 0, sampling.top_k, ranked.shape[-1]).clamp_max(ranked.shape[-1]) - 1
        )
        last = last[:, None, None].expand(*ranked.shape[:-1], 1)
        least = ranked.gather(-1, last)
    if sampling.top_p is not None:
        # an id is allowed while those before it have less than top_p together (arXiv 1904.09751)
        kept = ranked.where(ranked >= least, 0.0)
        before = (kept.cumsum(-1) - kept) / kept.sum(-1, keepdim=True)
        top_p = sampling.top_p[:, None, None]
        # rounding makes `before` reach 1 early: a row that narrows nothing must not lose its rarest ids to that
        count = ((before < top_p) | (top_p >= 1)).sum(-1, keepdim=True).clamp_min(1)
        least = torch.maximum(least, kept.gather(-1, count - 1))
    return weights >= least
