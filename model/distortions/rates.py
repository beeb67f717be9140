"""Time and frequency: resampled and back, played at another speed, another pitch, another tempo.

Decisions held here: speed changes both pitch and tempo, as a tape does; pitch keeps the length; tempo keeps the pitch
(phase vocoder). soxr resamples; a factor becomes a pair of rates to a thousandth.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import soxr
import torch
from torchaudio.functional import phase_vocoder

from model.distortions.distortion import SAMPLE_RATE, Distortion, Waveform, fit_length

N_FFT, HOP = 1024, 256  # of the phase vocoder


def play(waveform: Waveform, factor: float) -> Waveform:
    """[N] played `factor` times as fast -> [N / factor]."""
    return np.asarray(soxr.resample(waveform, round(1000 * factor), 1000), np.float32)


def stretch(waveform: Waveform, factor: float) -> Waveform:
    """[N] with a tempo `factor` times as fast and the same pitch -> [N / factor]."""
    window = torch.hann_window(N_FFT)
    sound = torch.from_numpy(waveform)
    length = round(len(waveform) / factor)
    padded = torch.nn.functional.pad(sound, (0, max(0, N_FFT - len(waveform))))
    spectrum = torch.stft(padded, N_FFT, HOP, window=window, return_complex=True)
    advance = torch.linspace(0, torch.pi * HOP, N_FFT // 2 + 1)[:, None]
    faster = phase_vocoder(spectrum, factor, advance)
    stretched = torch.istft(faster, N_FFT, HOP, window=window)
    return fit_length(stretched.numpy(), length)


@dataclass(frozen=True)
class Resampling(Distortion):
    """To another rate and back."""

    rate: int

    def apply(self, waveform: Waveform, rng: np.random.Generator) -> Waveform:
        there = soxr.resample(waveform, SAMPLE_RATE, self.rate)
        return np.asarray(soxr.resample(there, self.rate, SAMPLE_RATE), np.float32)


@dataclass(frozen=True)
class Speed(Distortion):
    """Played `factor` times as fast: shorter and higher above 1."""

    factor: float
    keeps_length = False

    def apply(self, waveform: Waveform, rng: np.random.Generator) -> Waveform:
        return play(waveform, self.factor)


@dataclass(frozen=True)
class Tempo(Distortion):
    """`factor` times as fast at the same pitch."""

    factor: float
    keeps_length = False

    def apply(self, waveform: Waveform, rng: np.random.Generator) -> Waveform:
        return stretch(waveform, self.factor)


@dataclass(frozen=True)
class Pitch(Distortion):
    """So many semitones higher at the same length."""

    semitones: float

    def apply(self, waveform: Waveform, rng: np.random.Generator) -> Waveform:
        factor = 2 ** (self.semitones / 12)
        return play(stretch(waveform, 1 / factor), factor)
