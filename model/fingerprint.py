"""What a sound sounds like in a thousand bits per second: enough to know it again, too little to hear it.

Bits are the signs of differences of band energies between neighboring bands and neighboring frames, after Haitsma and
Kalker, "A Highly Robust Audio Fingerprinting System" (ISMIR 2002): they survive gain, filters, resampling and lossy
coding. A word of 32 bits every 32 ms; stretches are compared by the words of 20 frames, which hear just under a second
of sound. A pair of unrelated stretches differs in half its bits, with a standard deviation of 0.03 (measured in
tests/model/test_fingerprint.py); MAX_BIT_ERRORS lies seven deviations below. Knows no files and no database.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from model.config import SAMPLE_RATE

Samples = npt.NDArray[np.float32]
Words = npt.NDArray[np.uint32]

FRAME_SAMPLES = 4096
HOP_SAMPLES = 512
PHASES = 2  # a clip that is asked about is read in hops this much finer: it may begin anywhere in a frame
NUM_BITS = 32
STRETCH = 20  # frames
MAX_BIT_ERRORS = 0.28
MIN_CHANGES = 0.04  # of a stretch's bits from frame to frame: a steady tone says too little
_LOWEST_HERTZ, _HIGHEST_HERTZ = 300.0, 3400.0  # what a telephone leaves
_FAINTEST = 1e-8  # of full scale: a noise floor of about -70 dB, whose fading is the same in many recordings
_BLOCK = 1024  # frames transformed at once
_WINDOW = np.hanning(FRAME_SAMPLES).astype(np.float32)
_EDGES = np.round(
    np.geomspace(_LOWEST_HERTZ, _HIGHEST_HERTZ, NUM_BITS + 2) * FRAME_SAMPLES / SAMPLE_RATE
).astype(int)

SILENT = 0  # the word of a frame without sound; it is like no other


@dataclass(frozen=True)
class Alike:
    """Where a known sound was found. `spans`: seconds of the clip that was asked about; `bit_errors`: 0..1, of the
    best stretch."""

    spans: tuple[tuple[float, float], ...]
    bit_errors: float


def fingerprint(waveform: Samples, hop_samples: int = HOP_SAMPLES) -> Words:
    """Words [T] of `waveform` [N] at 16 kHz; word t hears 4608 samples from t * hop_samples on. T may be 0."""
    step = HOP_SAMPLES // hop_samples  # bits compare frames 32 ms apart, however finely they are read
    count = max(0, (len(waveform) - FRAME_SAMPLES) // hop_samples + 1)
    if count <= step:
        return np.zeros(0, np.uint32)
    frames = np.lib.stride_tricks.sliding_window_view(waveform, FRAME_SAMPLES)[::hop_samples]
    energies = np.concatenate([_energies(frames[at : at + _BLOCK]) for at in range(0, count, _BLOCK)])
    slopes = energies[:, :-1] - energies[:, 1:]  # (T, 33 - 1)
    bits = slopes[step:] > slopes[:-step]
    words = np.packbits(bits, axis=1, bitorder="little").view("<u4")[:, 0].astype(np.uint32)
    loud = energies.sum(axis=1) > _FAINTEST * FRAME_SAMPLES**2
    words[~(loud[step:] & loud[:-step])] = SILENT
    return words


def _energies(frames: Samples) -> npt.NDArray[np.float64]:
    """(T, FRAME_SAMPLES) -> energy of each band (T, 33)."""
    transformed = torch.fft.rfft(torch.from_numpy(frames * _WINDOW), dim=1)  # a fifth of numpy's time
    spectrum = transformed.numpy()[:, _EDGES[0] : _EDGES[-1]]
    power = spectrum.real.astype(np.float64) ** 2 + spectrum.imag.astype(np.float64) ** 2
    bands: npt.NDArray[np.float64] = np.add.reduceat(power, _EDGES[:-1] - _EDGES[0], axis=1)
    return bands


def compare(known: Words, asked: Words, offset: int) -> Alike | None:
    """Whether `known` [T] is heard in `asked` [S] from word `offset` on, which may lie before its start.

    `asked` was read in hops of HOP_SAMPLES // PHASES. None where no stretch is alike.
    """
    places = offset + PHASES * np.arange(len(known))
    inside = np.flatnonzero((places >= 0) & (places < len(asked)))
    if len(inside) < STRETCH:
        return None
    known, places = known[inside], places[inside]
    heard = asked[places]
    usable = (known != SILENT) & (heard != SILENT)
    errors = np.bitwise_count(known ^ heard) * usable
    changes = np.bitwise_count(known[1:] ^ known[:-1]) * (usable[1:] & usable[:-1])
    total = _sums(usable, STRETCH) * NUM_BITS
    rate = _sums(errors, STRETCH) / np.maximum(total, 1)
    alike = (
        (total >= STRETCH * NUM_BITS * 3 // 4)
        & (rate <= MAX_BIT_ERRORS)
        & (_sums(changes, STRETCH - 1) >= MIN_CHANGES * STRETCH * NUM_BITS)
    )
    if not alike.any():
        return None
    covered = np.zeros(len(known), bool)
    for start in np.flatnonzero(alike):
        covered[start : start + STRETCH] = True
    hop = HOP_SAMPLES / PHASES / SAMPLE_RATE
    heard_seconds = (FRAME_SAMPLES + HOP_SAMPLES) / SAMPLE_RATE
    edges = np.flatnonzero(np.diff(np.concatenate([[0], covered.astype(np.int8), [0]])))
    spans = tuple(
        (float(places[first] * hop), float(places[last - 1] * hop + heard_seconds))
        for first, last in edges.reshape(-1, 2)
    )
    return Alike(spans, float(rate[alike].min()))


def _sums(values: npt.NDArray[np.generic], width: int) -> npt.NDArray[np.int64]:
    """Sums of `width` neighbors. [T] -> [T - width + 1]"""
    total = np.concatenate([[0], np.cumsum(values, dtype=np.int64)])
    sums: npt.NDArray[np.int64] = total[width:] - total[:-width]
    return sums
