"""From features to tokens: the statistics a tokenizer needs, and its clusters.

Also the baseline that a trained tokenizer has to beat: the same clustering on the spectrogram itself. Knows no losses.
"""

from __future__ import annotations

import dataclasses

import numpy as np
import torch
from sklearn.cluster import MiniBatchKMeans
from torch import Tensor

from model.tokenizer import MELS_PER_TOKEN, ConformerTokenizer
from model.training.data import AudioStore

ROWS, SECONDS = 8, 6.0  # of the crops that statistics and clusters are taken from


@torch.no_grad()
def fit_mel_statistics(tokenizer: ConformerTokenizer, store: AudioStore, rng: np.random.Generator) -> None:
    """Mean and deviation of every mel band over random crops."""
    mel = torch.cat([tokenizer.mel(store.crops(rng, ROWS, SECONDS)).flatten(0, 1) for _ in range(8)])
    tokenizer.mel_mean.copy_(mel.mean(0))
    tokenizer.mel_std.copy_(mel.std(0).clamp(min=0.1))


@torch.no_grad()
def cluster(
    tokenizer: ConformerTokenizer, store: AudioStore, rng: np.random.Generator, num_frames: int
) -> None:
    """Set feature normalization and centroids from about `num_frames` frames, mixed as crops are.

    Normalized, every dimension of the layer's output has deviation 1, and the onset strength the config's weight.
    """
    device = tokenizer.centroids.device
    per_batch = ROWS * round(SECONDS * tokenizer.frame_rate)
    found = [
        tokenizer.features(store.crops(rng, ROWS, SECONDS).to(device)).flatten(0, 1).cpu()
        for _ in range(-(-max(num_frames, 4 * tokenizer.num_clusters) // per_batch))
    ]
    features = torch.cat(found)
    mean, std = features.mean(0), features.std(0).clamp(min=1e-4)
    if narrow := tokenizer.config.bottleneck_dim:  # there, how far a dimension spreads says how much it tells
        std[:narrow] = std[:narrow].square().mean().sqrt()
    if tokenizer.config.onset_weight > 0:
        std[-1] /= tokenizer.config.onset_weight
    features = (features - mean) / std
    kmeans = MiniBatchKMeans(
        tokenizer.num_clusters, batch_size=8192, n_init=2, max_iter=60, max_no_improvement=20, random_state=0
    )
    kmeans.fit(features.numpy())
    tokenizer.feature_mean.copy_(tokenizer.feature_mean + mean.to(device) * tokenizer.feature_std)
    tokenizer.feature_std.mul_(std.to(device))
    tokenizer.centroids.copy_(torch.from_numpy(kmeans.cluster_centers_))


@torch.no_grad()
def cluster_use(
    tokenizer: ConformerTokenizer, store: AudioStore, rng: np.random.Generator, crops: int
) -> float:
    """Share of clusters that occur in random crops of `store`."""
    device = tokenizer.centroids.device
    tokens = [tokenizer.encode(store.crops(rng, ROWS, SECONDS).to(device)) for _ in range(-(-crops // ROWS))]
    return len(np.unique(torch.cat(tokens).cpu().numpy())) / tokenizer.num_clusters


class SpectrogramTokenizer(ConformerTokenizer):
    """The baseline: the same clustering on the normalized mel itself, without a network."""

    def __init__(self, like: ConformerTokenizer) -> None:
        stacked = MELS_PER_TOKEN * like.config.n_mels
        super().__init__(
            dataclasses.replace(
                like.config, encoder_dim=stacked, num_layers=0, onset_weight=0.0, bottleneck_dim=0
            )
        )
        self.mel_mean.copy_(like.mel_mean)
        self.mel_std.copy_(like.mel_std)
        self.to(like.centroids.device)

    def hidden(self, mel: Tensor, frames: Tensor | None = None) -> Tensor:
        return mel.reshape(mel.shape[0], -1, MELS_PER_TOKEN * mel.shape[2])
