"""What happens to single samples: gain, polarity, clipping, fewer bits, mu-law, and a compressor's slow gain."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import soxr

from model.distortions.distortion import SAMPLE_RATE, Distortion, Waveform

MU = 255.0  # ITU-T G.711
TELEPHONE_RATE = 8_000


@dataclass(frozen=True)
class Gain(Distortion):
    decibels: float

    def apply(self, waveform: Waveform, rng: np.random.Generator) -> npt.NDArray[np.floating]:
        return waveform * np.float32(10 ** (self.decibels / 20))


@dataclass(frozen=True)
class Polarity(Distortion):
    """Upside down."""

    def apply(self, waveform: Waveform, rng: np.random.Generator) -> Waveform:
        return -waveform


@dataclass(frozen=True)
class Clipping(Distortion):
    """Cut off so that a share of the samples is flat."""

    share: float

    def apply(self, waveform: Waveform, rng: np.random.Generator) -> npt.NDArray[np.floating]:
        limit = float(np.quantile(np.abs(waveform), 1 - self.share))
        return np.clip(waveform, -limit, limit)


@dataclass(frozen=True)
class Quantization(Distortion):
    """Rounded to `bits`, after a peak of 1."""

    bits: int

    def apply(self, waveform: Waveform, rng: np.random.Generator) -> npt.NDArray[np.floating]:
        peak = max(float(np.max(np.abs(waveform))), 1e-9)
        steps = 2 ** (self.bits - 1) - 1
        return np.asarray(np.round(waveform / peak * steps) / steps * peak)


@dataclass(frozen=True)
class MuLaw(Distortion):
    """The telephone of ITU-T G.711: 8 kHz, 8 bits with a logarithmic step."""

    def apply(self, waveform: Waveform, rng: np.random.Generator) -> npt.NDArray[np.floating]:
        narrow = np.clip(soxr.resample(waveform, SAMPLE_RATE, TELEPHONE_RATE), -1, 1)
        companded = np.sign(narrow) * np.log1p(MU * np.abs(narrow)) / np.log1p(MU)
        companded = np.round(companded * 127) / 127
        expanded = np.sign(companded) * np.expm1(np.abs(companded) * np.log1p(MU)) / MU
        back: npt.NDArray[np.floating] = soxr.resample(
            expanded.astype(np.float32), TELEPHONE_RATE, SAMPLE_RATE
        )
        return back


@dataclass(frozen=True)
class Compressor(Distortion):
    """Levels above `threshold_decibels` below the loudest are brought closer together by `ratio`, over 20 ms."""

    threshold_decibels: float = -25.0
    ratio: float = 4.0

    def apply(self, waveform: Waveform, rng: np.random.Generator) -> npt.NDArray[np.floating]:
        frame = SAMPLE_RATE // 50
        frames = -(-len(waveform) // frame)
        blocks = np.pad(waveform, (0, frames * frame - len(waveform))).reshape(frames, frame)
        level = 10 * np.log10(np.mean(blocks.astype(np.float64) ** 2, axis=1) + 1e-10)
        above = np.maximum(0.0, level - (level.max() + self.threshold_decibels))
        reduction = above * (1 - 1 / self.ratio)
        decibels = np.interp(
            np.arange(len(waveform)) / frame - 0.5, np.arange(frames), reduction.max() / 2 - reduction
        )
        return waveform * np.asarray(10 ** (decibels / 20), np.float32)
