"""The codec to beat: no network, only k-means.

The companded MDCT of each 20 ms frame, quantized by residual k-means with as many levels and codes as the
real codec. Fitted in the run that measures it, in about two minutes, so that the table compares like with like.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from model.codec import Codec
from model.config import SAMPLE_RATE
from model.evaluation.mdct import MDCT
from model.evaluation.spectral import Waveform

COMPANDING = 0.7
ITERATIONS = 12
ROWS_PER_ITERATION = 24_000
MEMORY = 0.6  # share of the running sums that the next iteration keeps
ROWS_PER_BLOCK = 8192  # bounds the distance matrix to 32 MiB


def compand(spectrum: Tensor) -> Tensor:
    return spectrum.sign() * spectrum.abs().pow(COMPANDING)


def expand(companded: Tensor) -> Tensor:
    return companded.sign() * companded.abs().pow(1 / COMPANDING)


class KMeansCodec(Codec):
    """Residual k-means over companded MDCT frames; `codebooks` [K, V, hop_length]."""

    codebooks: Tensor
    sample_rate = SAMPLE_RATE
    context_frames, past_samples = 1, 0

    def __init__(self, codebooks: Tensor) -> None:
        super().__init__()
        self.num_codebooks, self.codebook_size, self.hop_length = codebooks.shape
        self.mdct = MDCT(self.hop_length)
        self.register_buffer("codebooks", codebooks)

    def encode(self, waveform: Tensor) -> Tensor:
        residual = compand(self.mdct(waveform)[0])  # (B, T, hop)
        codes = []
        for book in self.codebooks:
            chosen = nearest(residual.flatten(0, 1), book).view(residual.shape[:2])  # (B, T)
            residual = residual - book[chosen]
            codes.append(chosen)
        return torch.stack(codes, dim=1)  # (B, K, T)

    def decode(
        self, codes: Tensor, start: int = 0, stop: int | None = None, past: Tensor | None = None
    ) -> Tensor:
        levels = zip(self.codebooks, codes.unbind(1), strict=False)
        frames = torch.stack([book[chosen] for book, chosen in levels]).sum(dim=0)  # (B, T, hop)
        waveform: Tensor = self.mdct.inverse(expand(frames))
        return waveform[:, start * self.hop_length :][
            :, : ((stop or codes.shape[2]) - start) * self.hop_length
        ]


def fit_baseline(
    clips: Sequence[Waveform],
    *,
    seed: int,
    num_codebooks: int = 12,
    codebook_size: int = 1024,
    hop_length: int = 320,
    max_frames: int = 120_000,
) -> KMeansCodec:
    """Fit on at most `max_frames` random frames of 20 ms from training-split `clips`, each [N] at 16 kHz."""
    rng = np.random.default_rng(seed)
    mdct = MDCT(hop_length)
    with torch.inference_mode():
        frames = torch.cat([compand(mdct(torch.from_numpy(clip)[None])[0][0]) for clip in clips])
        frames = frames[torch.from_numpy(rng.permutation(len(frames))[:max_frames])]  # (frames, hop)
        books = []
        for _ in range(num_codebooks):
            book = k_means(frames, codebook_size, rng)
            frames = frames - book[nearest(frames, book)]
            books.append(book)
    return KMeansCodec(torch.stack(books))


def k_means(rows: Tensor, num_clusters: int, rng: np.random.Generator) -> Tensor:
    """Centres [V, D] of `rows` [N, D] by k-means over random subsets, averaged exponentially (Sculley 2010).

    Subsets keep the cost of many rows low; empty clusters restart at random rows.
    """
    start = rng.choice(len(rows), size=num_clusters, replace=len(rows) < num_clusters)
    centres = rows[torch.from_numpy(start)].clone()
    sums, counts = torch.zeros_like(centres), torch.zeros(num_clusters)
    for _ in range(ITERATIONS):
        subset = rows[torch.from_numpy(rng.permutation(len(rows))[:ROWS_PER_ITERATION])]
        chosen = nearest(subset, centres)
        counts = MEMORY * counts + torch.bincount(chosen, minlength=num_clusters)
        sums = (MEMORY * sums).index_add_(0, chosen, subset)
        empty = counts < 0.5
        centres = sums / counts.clamp(min=0.5)[:, None]
        restart = rng.integers(len(rows), size=int(empty.sum()))
        centres[empty] = rows[torch.from_numpy(restart)]
        sums[empty], counts[empty] = centres[empty], 1.0
    return centres


def nearest(rows: Tensor, centres: Tensor) -> Tensor:
    """Index [N] of the centre [V, D] nearest to each of `rows` [N, D]."""
    half_norms = centres.square().sum(dim=1) / 2
    blocks = [(half_norms - block @ centres.T).argmin(dim=1) for block in torch.split(rows, ROWS_PER_BLOCK)]
    return torch.cat(blocks)
