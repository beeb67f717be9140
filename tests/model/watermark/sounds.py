"""Sound to mark: a voice of gliding harmonics with pauses and breath, different for every generator."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from model.config import SAMPLE_RATE
from model.watermark import WatermarkKey

KEY = WatermarkKey(bytes(range(32)))
OTHER_KEY = WatermarkKey(bytes(range(1, 33)))


def voice(seconds: float, seed: int) -> npt.NDArray[np.float32]:
    rng = np.random.default_rng(seed)
    length = round(seconds * SAMPLE_RATE)
    knots = np.arange(0, seconds + 0.3, 0.12)
    time = np.arange(length) / SAMPLE_RATE

    def course(low: float, high: float) -> npt.NDArray[np.float64]:
        return np.interp(time, knots, rng.uniform(low, high, len(knots)))

    phase = 2 * np.pi * np.cumsum(course(90, 180)) / SAMPLE_RATE
    sound = np.zeros(length)
    formants = [(course(300, 900), 0.5), (course(900, 2300), 0.3), (course(2300, 3600), 0.15)]
    for harmonic in range(1, 40):
        hertz = harmonic * np.gradient(phase) * SAMPLE_RATE / (2 * np.pi)
        loudness = sum(weight * np.exp(-(((hertz - f) / 250) ** 2)) for f, weight in formants) + 0.004
        sound += loudness * np.sin(harmonic * phase)
    breath = rng.standard_normal(length) * course(0.002, 0.06)
    syllables = np.clip(course(-0.2, 1.0), 0.02, 1.0)
    return (0.3 * syllables * (sound + breath)).astype(np.float32)
