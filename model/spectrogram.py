"""Companded magnitudes of sound, a codec frame at a time.

Each frame of `hop_length` samples holds the magnitudes of `HOPS` windows of 40 ms, spread evenly over it: hop j is
centred on sample (j + 1/2) hop_length / HOPS. Magnitudes are raised to the power 0.3, about as loudness grows, and
bins are weighted by how fast the Bark scale passes there, so that a squared error counts what the ear counts.
Knows no phase and no codes.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from model.config import SAMPLE_RATE

HOPS = 2  # windows per codec frame
WINDOW_HOPS = 4  # a window is this many hops long
COMPANDING = 0.3


class Spectrogram(nn.Module):
    """waveform [B, N] -> companded magnitudes [B, T, HOPS * bins], T = ceil(N / hop_length), and back to magnitudes."""

    window: Tensor
    weights: Tensor

    def __init__(self, hop_length: int) -> None:
        super().__init__()
        self.hop_length, self.hop = hop_length, hop_length // HOPS
        self.window_length = WINDOW_HOPS * self.hop
        self.bins = self.window_length // 2 + 1
        frequencies = torch.linspace(0, SAMPLE_RATE / 2, self.bins)
        slope = 1 / (1 + (frequencies / 600).square()).sqrt()  # of the Bark scale 6 asinh(f / 600)
        self.register_buffer("weights", (slope / slope.mean()).sqrt(), persistent=False)
        self.register_buffer("window", torch.hann_window(self.window_length), persistent=False)

    @property
    def lead(self) -> int:
        """Samples of the first window that lie before sample 0."""
        return (self.window_length - self.hop) // 2

    def forward(self, waveform: Tensor) -> Tensor:
        frames = -(-waveform.shape[1] // self.hop_length)
        missing = frames * self.hop_length - waveform.shape[1]
        padded = functional.pad(waveform.float(), (self.lead, self.lead + missing))
        windows = padded.unfold(1, self.window_length, self.hop) * self.window  # (B, HOPS T, window_length)
        companded: Tensor = torch.fft.rfft(windows).abs().pow(COMPANDING) * self.weights
        return companded.reshape(companded.shape[0], frames, -1)

    def magnitudes(self, companded: Tensor) -> Tensor:
        """companded [B, T, HOPS * bins] -> magnitudes [B, HOPS * T, bins]."""
        per_hop = companded.float().reshape(companded.shape[0], -1, self.bins)
        magnitudes: Tensor = (per_hop / self.weights).clamp_min(0).pow(1 / COMPANDING)
        return magnitudes
