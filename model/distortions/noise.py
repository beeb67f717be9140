"""What else can be heard: white and pink noise, other people talking, music underneath.

Decisions held here: levels are a signal-to-noise ratio over the whole clip. Other sounds come from a pool of
recordings that the caller gives; babble is several of them at once, a bed is one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from model.distortions.distortion import SAMPLE_RATE, Distortion, Waveform, level_of

VOICES = 6  # of babble


def add(waveform: Waveform, other: npt.NDArray[np.floating], decibels: float) -> npt.NDArray[np.floating]:
    """waveform [N] with `other` [N] so much quieter. Silence stays silent."""
    level = level_of(other)
    factor = level_of(waveform) / level * 10 ** (-decibels / 20) if level > 0 else 0.0
    return waveform + np.asarray(factor * other, np.float32)


def excerpt(pool: Sequence[Waveform], length: int, rng: np.random.Generator) -> Waveform:
    """[length] of a random recording of `pool` from a random place on, looped where it is too short."""
    source = pool[int(rng.integers(len(pool)))]
    start = int(rng.integers(len(source)))
    return np.resize(np.roll(source, -start), length).astype(np.float32)


@dataclass(frozen=True)
class WhiteNoise(Distortion):
    decibels: float  # signal-to-noise ratio

    def apply(self, waveform: Waveform, rng: np.random.Generator) -> npt.NDArray[np.floating]:
        return add(waveform, rng.standard_normal(len(waveform), dtype=np.float32), self.decibels)


@dataclass(frozen=True)
class PinkNoise(Distortion):
    """Power falls by 3 dB per octave above 20 Hz."""

    decibels: float

    def apply(self, waveform: Waveform, rng: np.random.Generator) -> npt.NDArray[np.floating]:
        spectrum = np.fft.rfft(rng.standard_normal(len(waveform)))
        frequencies = np.fft.rfftfreq(len(waveform), 1 / SAMPLE_RATE)
        noise = np.fft.irfft(spectrum / np.sqrt(np.maximum(frequencies, 20.0)), len(waveform))
        return add(waveform, noise, self.decibels)


@dataclass(frozen=True)
class Babble(Distortion):
    """VOICES recordings of speech at once."""

    pool: Sequence[Waveform]
    decibels: float

    def apply(self, waveform: Waveform, rng: np.random.Generator) -> npt.NDArray[np.floating]:
        voices = np.zeros(len(waveform), np.float32)
        for _ in range(VOICES):
            voice = excerpt(self.pool, len(waveform), rng)
            voices += voice / max(level_of(voice), 1e-6)
        return add(waveform, voices, self.decibels)


@dataclass(frozen=True)
class MusicBed(Distortion):
    """One recording of music underneath."""

    pool: Sequence[Waveform]
    decibels: float

    def apply(self, waveform: Waveform, rng: np.random.Generator) -> npt.NDArray[np.floating]:
        return add(waveform, excerpt(self.pool, len(waveform), rng), self.decibels)
