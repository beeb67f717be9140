"""Rooms: exponentially decaying random reflections after the direct sound, and a single echo.

Convolution through the spectrum of the whole clip; the direct sound stays where it was.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from model.distortions.distortion import SAMPLE_RATE, Distortion, Waveform


@dataclass(frozen=True)
class Reverb(Distortion):
    """A room whose sound falls by 60 dB in `seconds`, `direct_decibels` quieter than the direct sound."""

    seconds: float
    direct_decibels: float = 3.0

    def apply(self, waveform: Waveform, rng: np.random.Generator) -> npt.NDArray[np.floating]:
        times = np.arange(round(self.seconds * SAMPLE_RATE)) / SAMPLE_RATE
        tail = rng.standard_normal(len(times)) * 10 ** (-3 * times / self.seconds)
        tail[: round(0.002 * SAMPLE_RATE)] = 0  # the first reflection comes from 70 cm further
        tail *= 10 ** (-self.direct_decibels / 20) / np.sqrt(np.sum(tail**2))
        response = tail
        response[0] = 1.0
        size = len(waveform) + len(response)
        wet: npt.NDArray[np.floating] = np.fft.irfft(
            np.fft.rfft(waveform, size) * np.fft.rfft(response, size), size
        )
        return wet[: len(waveform)]


@dataclass(frozen=True)
class Echo(Distortion):
    """The sound once more, `seconds` later."""

    seconds: float
    decibels: float = -6.0

    def apply(self, waveform: Waveform, rng: np.random.Generator) -> npt.NDArray[np.floating]:
        delayed = np.pad(waveform, (round(self.seconds * SAMPLE_RATE), 0))[: len(waveform)]
        return waveform + np.float32(10 ** (self.decibels / 20)) * delayed
