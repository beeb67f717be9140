"""What every distortion is: a waveform and a random generator in, a waveform out.

Decisions held here: float32 [N] at 16 kHz mono on both sides; the same waveform and the same state of the generator
give the same samples; nothing comes back that is not finite; one that keeps the length also keeps every sound at its
place (delays of encoders are taken out). Randomness, such as the noise or the room, comes from the generator alone.
Knows no name of any distortion; `model.distortions.registry` does.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from model.config import SAMPLE_RATE

Waveform = npt.NDArray[np.float32]

__all__ = ["SAMPLE_RATE", "Chain", "Distortion", "Waveform", "fit_length", "level_of"]


class Distortion(ABC):
    """Something that happens to sound on its way. keeps_length: whether [N] comes out as [N]."""

    keeps_length: bool = True

    def __call__(self, waveform: Waveform, rng: np.random.Generator) -> Waveform:
        """waveform [N] -> [N], or [M] where `keeps_length` is false."""
        if len(waveform) == 0:
            return waveform
        out = np.asarray(self.apply(np.asarray(waveform, np.float32), rng), np.float32)
        return fit_length(out, len(waveform)) if self.keeps_length else out

    @abstractmethod
    def apply(self, waveform: Waveform, rng: np.random.Generator) -> npt.NDArray[np.floating]:
        """What `__call__` does; where the length is kept, a few samples more or fewer at the end are made right."""


@dataclass(frozen=True)
class Chain(Distortion):
    """One after the other."""

    steps: tuple[Distortion, ...]

    @property
    def keeps_length(self) -> bool:  # type: ignore[override]
        return all(step.keeps_length for step in self.steps)

    def apply(self, waveform: Waveform, rng: np.random.Generator) -> Waveform:
        for step in self.steps:
            waveform = step(waveform, rng)
        return waveform


def fit_length(waveform: npt.NDArray[np.floating], length: int) -> Waveform:
    """[M] cut, or followed by silence, to [length]."""
    missing = max(0, length - len(waveform))
    return np.pad(waveform, (0, missing))[:length].astype(np.float32)


def level_of(waveform: npt.NDArray[np.floating]) -> float:
    """Root mean square of [N]; 0 for nothing."""
    return float(np.sqrt(np.mean(np.square(waveform, dtype=np.float64)))) if len(waveform) else 0.0
