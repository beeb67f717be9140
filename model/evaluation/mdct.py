"""Modified discrete cosine transform at frame rate, and its sine twin.

A frame of 2 x `hop_length` samples under a sine window gives `hop_length` coefficients; overlapped halves cancel each
other's aliasing, so `inverse(forward(x)) == x` away from the two outer half hops (Princen & Bradley 1986).
Frame t is centred on the middle of hop t: it covers samples (t - 1/2) hop .. (t + 3/2) hop.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional


class MDCT(nn.Module):
    """waveform [B, N] <-> coefficients [B, T, hop_length], T = ceil(N / hop_length)."""

    forward_basis: Tensor
    inverse_basis: Tensor

    def __init__(self, hop_length: int) -> None:
        super().__init__()
        self.hop_length = hop_length
        n = torch.arange(2 * hop_length, dtype=torch.float64)
        k = torch.arange(hop_length, dtype=torch.float64)
        window = torch.sin(math.pi / (2 * hop_length) * (n + 0.5))
        phase = math.pi / hop_length * (n[:, None] + 0.5 + hop_length / 2) * (k[None] + 0.5)
        scale = math.sqrt(2 / hop_length)
        cosine = window[:, None] * torch.cos(phase) * scale  # (2 hop, hop)
        sine = window[:, None] * torch.sin(phase) * scale
        self.register_buffer("forward_basis", torch.cat([cosine, sine], 1).float(), persistent=False)
        self.register_buffer("inverse_basis", cosine.T.contiguous().float(), persistent=False)

    def _frames(self, waveform: Tensor) -> Tensor:
        hop = self.hop_length
        num_frames = -(-waveform.shape[-1] // hop)
        half = hop // 2
        padded = functional.pad(waveform, (half, num_frames * hop - waveform.shape[-1] + half))
        return padded.unfold(-1, 2 * hop, hop)  # (B, T, 2 hop)

    def forward(self, waveform: Tensor) -> tuple[Tensor, Tensor]:
        """Cosine and sine coefficients, each [B, T, hop_length]."""
        with torch.autocast(waveform.device.type, enabled=False):  # bf16 would drown quiet coefficients
            both = self._frames(waveform.float()) @ self.forward_basis
        cosine, sine = both.chunk(2, dim=-1)
        return cosine, sine

    def inverse(self, coefficients: Tensor) -> Tensor:
        """Waveform [B, T * hop_length] from cosine coefficients [B, T, hop_length]."""
        hop = self.hop_length
        with torch.autocast(coefficients.device.type, enabled=False):
            frames = coefficients.float() @ self.inverse_basis  # (B, T, 2 hop)
        head = functional.pad(frames[..., :hop], (0, 0, 0, 1))
        tail = functional.pad(frames[..., hop:], (0, 0, 1, 0))
        samples = (head + tail).flatten(-2)  # (B, (T + 1) hop), begins half a hop early
        return samples[..., hop // 2 : -(hop // 2)]
