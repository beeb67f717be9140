"""Filters: low-pass, high-pass, telephone band, and an equalizer with random gains per octave.

Decisions held here: magnitudes only, applied to the spectrum of the whole clip, so that nothing is delayed; the slope
is a Butterworth filter's. Knows no convolution with rooms.
"""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from model.distortions.distortion import SAMPLE_RATE, Distortion, Waveform

PADDING = SAMPLE_RATE // 4  # silence after the clip: the spectrum's end does not ring into its start


class Filter(Distortion):
    """A gain per frequency."""

    def apply(self, waveform: Waveform, rng: np.random.Generator) -> npt.NDArray[np.floating]:
        size = len(waveform) + PADDING
        frequencies = np.asarray(np.fft.rfftfreq(size, 1 / SAMPLE_RATE), np.float64)
        filtered: npt.NDArray[np.floating] = np.fft.irfft(
            np.fft.rfft(waveform, size) * self.gains(frequencies, rng), size
        )[: len(waveform)]
        return filtered

    @abstractmethod
    def gains(
        self, frequencies: npt.NDArray[np.float64], rng: np.random.Generator
    ) -> npt.NDArray[np.float64]:
        """Factor of each frequency in Hz."""


@dataclass(frozen=True)
class LowPass(Filter):
    """Half power at `hertz`, 6 dB per octave and order beyond."""

    hertz: float
    order: int = 8

    def gains(
        self, frequencies: npt.NDArray[np.float64], rng: np.random.Generator
    ) -> npt.NDArray[np.float64]:
        return 1 / np.sqrt(1 + (frequencies / self.hertz) ** (2 * self.order))


@dataclass(frozen=True)
class HighPass(Filter):
    """Half power at `hertz`, 6 dB per octave and order below."""

    hertz: float
    order: int = 8

    def gains(
        self, frequencies: npt.NDArray[np.float64], rng: np.random.Generator
    ) -> npt.NDArray[np.float64]:
        return 1 / np.sqrt(1 + (self.hertz / np.maximum(frequencies, 1e-3)) ** (2 * self.order))


@dataclass(frozen=True)
class Equalizer(Filter):
    """Random gains of up to +-`decibels` an octave apart, smooth between them."""

    decibels: float

    def gains(
        self, frequencies: npt.NDArray[np.float64], rng: np.random.Generator
    ) -> npt.NDArray[np.float64]:
        centers = 62.5 * 2.0 ** np.arange(8)  # 62.5 Hz ... 8 kHz
        chosen = rng.uniform(-self.decibels, self.decibels, len(centers))
        curve = np.interp(np.log2(np.maximum(frequencies, 1.0)), np.log2(centers), chosen)
        return np.asarray(10 ** (curve / 20), np.float64)
