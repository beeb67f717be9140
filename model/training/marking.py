"""Watermarks on training sound: of a random key and payload, on half of everything, so that the detector learns the
sound and not the mark."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from model.training.takes import Samples
from model.watermark import MAX_PAYLOAD, WatermarkKey, embed

KEY_BYTES = 32
Marker = Callable[[Samples, np.random.Generator], Samples]


def random_mark(waveform: Samples, rng: np.random.Generator) -> Samples:
    """waveform [N] -> [N], marked throughout."""
    return embed(waveform, WatermarkKey(rng.bytes(KEY_BYTES)), int(rng.integers(MAX_PAYLOAD + 1)))
