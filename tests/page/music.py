"""What the page's test service continues every clip with. Light: a test can know it without loading the service."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

RATE = 16_000
FAILING_SEED = 13
HELD_SEED = 17
SCALE = np.array([0, 2, 4, 7, 9, 12, 14, 16])  # semitones above the root


def tune(seed: int, num_samples: int) -> npt.NDArray[np.float32]:
    """Plucked notes, four a second. [N]"""
    rng = np.random.default_rng(seed)
    out = np.zeros(num_samples + RATE)
    time = np.arange(RATE) / RATE
    for start in range(0, num_samples, RATE // 4):
        frequency = 220 * 2 ** (rng.choice(SCALE) / 12)
        partials = sum(np.sin(2 * np.pi * frequency * k * time) / k**2 for k in (1, 2, 3, 4))
        out[start : start + RATE] += 0.25 * partials * np.exp(-5 * time) * np.minimum(1, time * 200)
    return out[:num_samples].astype(np.float32)
