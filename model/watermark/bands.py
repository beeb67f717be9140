"""The grid the mark lives on: frames of 32 ms every 8 ms, 24 mel bands from 250 to 6800 Hz, chips of 6 frames.

Decisions held here: bands are wide enough to survive coding and narrow enough that 24 fit; below 250 Hz and above
6800 Hz telephones and encoders leave little. Frame t is centered on sample (t - 1) * 128.
"""

from __future__ import annotations

import math
from functools import cache

import numpy as np
import numpy.typing as npt

from model.config import SAMPLE_RATE

FRAME = 512
HOP = 128
CHIP_FRAMES = 6
CHIP_SECONDS = CHIP_FRAMES * HOP / SAMPLE_RATE
NUM_BANDS = 24
NUM_BINS = FRAME // 2 + 1
LEAD = FRAME - HOP  # zeros before the first sample

_LOW, _HIGH = 250.0, 6800.0
_BIN = SAMPLE_RATE / FRAME  # Hz

Floats = npt.NDArray[np.float32]


@cache
def window() -> Floats:
    """[512]: its square, shifted by 128 samples, adds up to 2."""
    phase = 2 * np.pi * np.arange(FRAME) / FRAME
    return np.sqrt(0.5 - 0.5 * np.cos(phase)).astype(np.float32)


@cache
def edges() -> npt.NDArray[np.float64]:
    """[25] in Hz, equally spaced in mel (O'Shaughnessy 1987)."""
    low, high = (2595 * math.log10(1 + hertz / 700) for hertz in (_LOW, _HIGH))
    mel = np.linspace(low, high, NUM_BANDS + 1)
    return np.asarray(700 * (10 ** (mel / 2595) - 1))


@cache
def first_bins() -> npt.NDArray[np.int64]:
    """[25]: band b is made of the bins first_bins[b] to first_bins[b + 1] - 1."""
    return np.ceil(edges() / _BIN - 0.5).astype(np.int64)


def band_means(pitch: float) -> Floats:
    """[257, 24]: multiplied with bins, the mean of each band where every frequency was multiplied by `pitch`."""
    low = (np.arange(NUM_BINS) - 0.5)[:, None]
    lower, upper = pitch * edges()[None, :-1] / _BIN, pitch * edges()[None, 1:] / _BIN
    share = np.clip(np.minimum(low + 1, upper) - np.maximum(low, lower), 0, 1)
    means: Floats = (share / np.maximum(share.sum(axis=0), 1e-9)).astype(np.float32)
    return means


def spectra(waveform: Floats) -> npt.NDArray[np.complex64]:
    """waveform [N] -> [T, 257]; every sample lies in four frames."""
    num_frames = -(-(len(waveform) + LEAD) // HOP)
    padded = np.zeros((num_frames - 1) * HOP + FRAME, np.float32)
    padded[LEAD : LEAD + len(waveform)] = waveform
    frames = np.lib.stride_tricks.sliding_window_view(padded, FRAME)[::HOP]
    return np.fft.rfft(frames * window(), axis=1).astype(np.complex64, copy=False)
