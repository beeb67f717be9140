"""Spectral losses of the codec: what should sound alike should measure alike.

All compare waveforms [B, N] at 16 kHz and return scalars. Knows no model.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional
from torchaudio.functional import melscale_fbanks

from model.config import SAMPLE_RATE

MEL_BANDS = {256: 20, 512: 40, 1024: 80, 2048: 120}  # STFT size: bands


class SpectralLoss(nn.Module):
    """Compressed complex STFT and log-mel distance at one of several resolutions.

    The complex part compares square-root compressed spectra with and without their phase, so that waveforms stay
    aligned; the mel part compares log10 energies. One resolution a call: drawing it at random costs a quarter of
    computing all four and has the same expectation.
    """

    def __init__(self, phase_weight: float = 0.3) -> None:
        super().__init__()
        self.phase_weight = phase_weight
        for size, bands in MEL_BANDS.items():
            self.register_buffer(f"window_{size}", torch.hann_window(size), persistent=False)
            filters = melscale_fbanks(size // 2 + 1, 0.0, SAMPLE_RATE / 2, bands, SAMPLE_RATE)
            self.register_buffer(f"mel_{size}", filters, persistent=False)

    def forward(self, output: Tensor, target: Tensor, size: int) -> tuple[Tensor, Tensor]:
        """(complex distance, log-mel distance) with an STFT of `size` samples, a key of MEL_BANDS."""
        window = getattr(self, f"window_{size}")
        spectra = torch.stft(torch.cat([output, target]), size, size // 4, window=window, return_complex=True)
        parts = torch.view_as_real(spectra * (2.0 / size**0.5))  # (2 B, F, T, 2)
        power = parts.square().sum(-1) + 1e-7
        mel = torch.log10(power.transpose(1, 2) @ getattr(self, f"mel_{size}") + 1e-6)
        mel_output, mel_target = mel.chunk(2)
        root = power.sqrt().sqrt()  # |S|^(1/2)
        compressed_output, compressed_target = (parts / root[..., None]).chunk(2)
        root_output, root_target = root.chunk(2)
        phase = (compressed_output - compressed_target).square().sum(-1).mean()
        magnitude = (root_output - root_target).square().mean()
        distance = (1 - self.phase_weight) * magnitude + self.phase_weight * phase
        return distance, (mel_output - mel_target).abs().mean()


class EnvelopeLoss(nn.Module):
    """One minus the correlation of third-octave envelopes over 384 ms, after STOI (Taal et al. 2011).

    Frames of 25.6 ms every 12.8 ms, 15 bands from 150 Hz, segments of 30 frames; without the original's clipping.
    """

    filters: Tensor
    window: Tensor

    def __init__(self) -> None:
        super().__init__()
        frequencies = torch.linspace(0, SAMPLE_RATE / 2, 257)
        centers = 150 * 2 ** (torch.arange(15) / 3)
        edges = centers[:, None] * 2 ** torch.tensor([-1 / 6, 1 / 6])
        inside = (frequencies[:, None] >= edges[:, 0]) & (frequencies[:, None] < edges[:, 1])
        self.register_buffer("filters", inside.float(), persistent=False)
        self.register_buffer("window", torch.hann_window(410), persistent=False)

    def forward(self, output: Tensor, target: Tensor) -> Tensor:
        spectra = torch.stft(
            torch.cat([output, target]), 512, 205, win_length=410, window=self.window, return_complex=True
        )
        power = torch.view_as_real(spectra).square().sum(-1).transpose(1, 2) @ self.filters
        envelope = (power + 1e-5).sqrt().unfold(1, 30, 10)  # (2 B, segments, 15, 30)
        envelope = functional.normalize(envelope - envelope.mean(-1, keepdim=True), dim=-1, eps=1e-3)
        envelope_output, envelope_target = envelope.chunk(2)
        return 1 - (envelope_output * envelope_target).sum(-1).mean()
