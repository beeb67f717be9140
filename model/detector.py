"""How likely it is that this system made a window of sound.

A high-resolution spectrogram, two-dimensional convolutions that find the same partials and onsets wherever they lie,
residual convolutions over time, attentive statistics (arXiv 1803.10963), one logit. Decisions held here: loudness and
the mean spectrum are taken out before anything is learnt, for they say who recorded, not who made; a logit becomes
a probability by a scale and an offset fitted on held-out sound (Platt 1999); silence is no evidence. Windows may be
shorter than `window_seconds`. What windows say of a clip is `model.timeline`'s. Knows no engine and no training.
"""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torchaudio.functional import melscale_fbanks

from model.config import SAMPLE_RATE, DetectorConfig, OperatingPoint
from model.timeline import ClipEvidence, Samples, Span, aggregate, windows_of

SILENCE = 1e-4  # root mean square, -80 dBFS
LOWEST_HERTZ = 40.0
JUDGED_TOGETHER = 16  # windows


class TimeBlock(nn.Module):
    """Depthwise convolution over time, then a pointwise network, with residual. [B, C, T]."""

    def __init__(self, dim: int, kernel_size: int, dropout: float) -> None:
        super().__init__()
        self.depthwise = nn.Conv1d(dim, dim, kernel_size, padding=kernel_size // 2, groups=dim)
        self.norm = nn.GroupNorm(1, dim)
        self.expand = nn.Conv1d(dim, 2 * dim, 1)
        self.contract = nn.Conv1d(2 * dim, dim, 1)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        hidden = self.expand(self.norm(self.depthwise(x)))
        output: Tensor = x + self.dropout(self.contract(nn.functional.gelu(hidden)))
        return output


class Detector(nn.Module):
    """The network, its calibration and its operating points (in `config`)."""

    filters: Tensor
    window: Tensor
    calibration: Tensor

    def __init__(self, config: DetectorConfig) -> None:
        super().__init__()
        self.config = config
        bins = config.n_fft // 2 + 1
        filters = melscale_fbanks(
            bins, LOWEST_HERTZ, SAMPLE_RATE / 2, config.n_bands, SAMPLE_RATE, norm="slaney"
        )
        self.register_buffer("filters", filters, persistent=False)  # (bins, bands)
        self.register_buffer("window", torch.hann_window(config.n_fft), persistent=False)
        self.register_buffer("calibration", torch.tensor([1.0, 0.0]))  # scale and offset of the logit
        layers: list[nn.Module] = []
        bands, width = config.n_bands, 1
        for number, channels in enumerate(config.channels):
            stride = (2, 2) if number == 0 else (2, 1)
            kernel = 5 if number == 0 else 3
            layers += [
                nn.Conv2d(width, channels, kernel, stride, kernel // 2),
                nn.GroupNorm(1, channels),
                nn.GELU(),
            ]
            bands, width = -(-bands // 2), channels
        self.stem = nn.Sequential(*layers)
        self.project = nn.Conv1d(width * bands, config.dim, 1)
        self.blocks = nn.Sequential(
            *[TimeBlock(config.dim, config.kernel_size, config.dropout) for _ in range(config.n_layer)]
        )
        self.attention = nn.Conv1d(config.dim, 1, 1)
        self.head = nn.Sequential(
            nn.LayerNorm(2 * config.dim), nn.Dropout(config.dropout), nn.Linear(2 * config.dim, 1)
        )

    def spectrogram(self, windows: Tensor) -> Tensor:
        """windows [B, N] at any loudness -> log bands [B, bands, T] without their mean over time."""
        loudness = windows.square().mean(1, keepdim=True).sqrt().clamp_min(SILENCE)
        spectrum = torch.stft(
            windows / loudness,
            self.config.n_fft,
            self.config.hop_length,
            window=self.window,
            return_complex=True,
        )
        power = spectrum.real.square() + spectrum.imag.square()  # (B, bins, T)
        bands = torch.log(power.transpose(1, 2) @ self.filters + 1e-3).transpose(1, 2)
        return (bands - bands.mean(2, keepdim=True)) / 2.5

    def forward(self, windows: Tensor) -> Tensor:
        """windows [B, N] at 16 kHz -> logits [B], not calibrated."""
        with torch.autocast(windows.device.type, enabled=False):
            bands = self.spectrogram(windows.float())
        hidden = self.stem(bands[:, None]).flatten(1, 2)  # (B, C * bands, T)
        hidden = self.blocks(self.project(hidden)).float()
        weights = self.attention(hidden).softmax(2)
        mean = (weights * hidden).sum(2)
        spread = ((weights * hidden.square()).sum(2) - mean.square()).clamp_min(1e-4).sqrt()
        logits: Tensor = self.head(torch.cat([mean, spread], 1))[:, 0]
        return logits

    @torch.inference_mode()
    def probabilities(self, windows: Tensor) -> Tensor:
        """Calibrated probabilities [B] of windows [B, N]; 0 for silence."""
        audible = windows.square().mean(1).sqrt() > SILENCE
        scale, offset = self.calibration
        return torch.sigmoid(scale * self(windows).float() + offset) * audible

    @torch.inference_mode()
    def judge(self, windows: list[np.ndarray[Any, Any]]) -> list[float]:
        """Probabilities of windows [n] of one length, in bounded memory: the engine's window function."""
        found: list[float] = []
        for first in range(0, len(windows), JUDGED_TOGETHER):
            batch = np.stack(windows[first : first + JUDGED_TOGETHER]).astype(np.float32, copy=False)
            found += self.probabilities(torch.from_numpy(batch).to(self.calibration.device)).tolist()
        return found

    def windows_of(self, waveform: Samples) -> tuple[list[Samples], list[Span]]:
        """The clip [N], one sample or more, as windows [n] and the seconds each covers."""
        return windows_of(waveform, self.config.window_seconds, self.config.hop_seconds)

    def aggregate(self, probabilities: list[float], spans: list[Span]) -> ClipEvidence:
        """The clip's evidence from its windows'."""
        return aggregate(probabilities, spans, self.config.hop_seconds)

    def operating_point(self, seconds: float) -> OperatingPoint | None:
        """What was measured for clips of this length; None below the shortest, and where nothing was measured."""
        return self.config.operating_point(seconds)

    def measured(self, points: tuple[OperatingPoint, ...]) -> None:
        """Take on operating points."""
        self.config = dataclasses.replace(self.config, operating_points=points)

    def calibrate(self, scale: float, offset: float) -> None:
        """Take on a calibration: the probability of a logit is sigmoid(scale * logit + offset)."""
        assert scale > 0 and math.isfinite(offset)
        self.calibration.copy_(torch.tensor([scale, offset]))
