"""Waveforms of a corpus: reading and writing files, level, silence, and cutting at quiet places.

A waveform here is numpy float32 [N] at 16 kHz mono. Corpus workers are many short processes, so this
package stays free of torch, whose import takes longer than rendering a clip.
"""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import soundfile
import soxr
from numpy.typing import NDArray

from model.errors import AudioError

Waveform = NDArray[np.float32]

SAMPLE_RATE = 16_000
FRAME = 160  # 10 ms: the grid on which loudness is measured
FORMATS = {"flac": ("FLAC", "PCM_16"), "ogg": ("OGG", "VORBIS")}


def read_waveform(path: Path, sample_rate: int = SAMPLE_RATE) -> Waveform:
    """waveform [N]: any file libsndfile reads, mixed to mono and resampled. Raises AudioError."""
    try:
        samples, rate = soundfile.read(path, dtype="float32", always_2d=True)  # (N, channels)
    except (soundfile.LibsndfileError, OSError) as error:
        raise AudioError(f"{path} cannot be read as audio: {error}") from error
    if not np.isfinite(samples).all():
        raise AudioError(f"{path} holds samples that are not finite", code="non_finite")
    return resample(samples.mean(axis=1), rate, sample_rate)


def resample(waveform: Waveform, rate: float, new_rate: float) -> Waveform:
    if rate == new_rate:
        return waveform
    return np.asarray(soxr.resample(waveform, rate, new_rate, "HQ"), dtype=np.float32)


def write_waveform(path: Path, waveform: Waveform) -> None:
    """Write 16 kHz mono; the format follows from the suffix. The file appears whole or not at all."""
    container, subtype = FORMATS[path.suffix[1:]]
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f"{path.name}.partial")
    soundfile.write(partial, waveform, SAMPLE_RATE, format=container, subtype=subtype)
    os.replace(partial, path)


def frame_levels(waveform: Waveform) -> NDArray[np.float64]:
    """RMS of every 10 ms in dB relative to full scale, [ceil(N / 160)]; digital silence is -120."""
    padded = np.pad(waveform.astype(np.float64), (0, -len(waveform) % FRAME))
    power = (padded.reshape(-1, FRAME) ** 2).mean(axis=1)
    return np.asarray(10.0 * np.log10(power + 1e-12))


def trim_silence(waveform: Waveform, *, margin: float = 0.1, longest_gap: float = 0.5) -> Waveform:
    """Remove what a noise gate left behind.

    Leading and trailing frames 45 dB below the loud parts go, except for `margin` seconds; gated stretches
    inside (below -66 dB, quieter than any room) are shortened to `longest_gap` seconds.
    """
    levels = frame_levels(waveform)
    loud = np.percentile(levels, 95) if levels.size else -120.0
    active = np.flatnonzero(levels > max(loud - 45.0, -66.0))
    if active.size == 0:
        return waveform[:0]
    margin_frames = round(margin * SAMPLE_RATE / FRAME)
    first = max(0, int(active[0]) - margin_frames)
    last = min(len(levels), int(active[-1]) + 1 + margin_frames)
    keep = np.ones(len(levels), dtype=bool)
    keep[:first] = False
    keep[last:] = False
    gap_frames = round(longest_gap * SAMPLE_RATE / FRAME)
    for start, end in _runs(levels <= -66.0):
        if first < start and end < last and end - start > gap_frames:
            keep[start + gap_frames // 2 : end - (gap_frames - gap_frames // 2)] = False
    return np.asarray(waveform[np.repeat(keep, FRAME)[: len(waveform)]])


def cut_at_quiet_places(waveform: Waveform, max_seconds: float, min_seconds: float) -> list[Waveform]:
    """Pieces of at most `max_seconds`, cut where 0.2 s around the cut are quietest; together the whole.

    Every piece of a longer waveform has at least `min_seconds` (which is at most half of `max_seconds`).
    """
    assert 0.0 < min_seconds <= max_seconds / 2
    pieces = []
    shortest, longest = round(min_seconds * SAMPLE_RATE), round(max_seconds * SAMPLE_RATE)
    while len(waveform) > longest:
        # The second half of the reach, but never so far that the rest falls short.
        low, high = max(shortest, longest // 2), min(longest, len(waveform) - shortest)
        levels = np.convolve(frame_levels(waveform[low:high]), np.ones(20) / 20, mode="same")
        cut = low + min(int(levels.argmin()) * FRAME, high - low)
        pieces.append(waveform[:cut])
        waveform = waveform[cut:]
    return [*pieces, waveform]


def set_level(waveform: Waveform, level: float, *, peak: float = 0.97) -> Waveform:
    """Scale to an RMS of `level` dB relative to full scale, or less where the peak would pass `peak`."""
    rms = float(np.sqrt(np.mean(waveform.astype(np.float64) ** 2)))
    top = float(np.abs(waveform).max(initial=0.0))
    if rms == 0.0:
        return waveform
    return np.asarray(waveform * min(10.0 ** (level / 20.0) / rms, peak / top), dtype=np.float32)


def _runs(mask: NDArray[np.bool_]) -> list[tuple[int, int]]:
    """Half-open [start, end) of every run of True."""
    edges = np.flatnonzero(np.diff(np.concatenate(([False], mask, [False])).astype(np.int8)))
    return [(int(start), int(end)) for start, end in edges.reshape(-1, 2)]
