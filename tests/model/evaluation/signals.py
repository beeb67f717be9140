"""Sounds whose properties are known, for the tests of metrics. [N] float32 at 16 kHz."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from model.config import SAMPLE_RATE
from model.evaluation.spectral import Waveform

SPEECH_SECONDS = 2


def speech_like(seed: int) -> Waveform:
    """Harmonics of a gliding voice that come and go in syllables, with a little hiss."""
    rng = np.random.default_rng(seed)
    time = np.arange(SPEECH_SECONDS * SAMPLE_RATE) / SAMPLE_RATE
    pitch = rng.uniform(100, 200) * (1 + 0.1 * np.sin(2 * np.pi * 0.7 * time))
    phase = 2 * np.pi * np.cumsum(pitch) / SAMPLE_RATE
    voice = sum(np.sin(k * phase + rng.uniform(0, 6)) / k ** rng.uniform(0.7, 1.3) for k in range(1, 25))
    syllables = np.clip(np.sin(2 * np.pi * 3 * time + rng.uniform(0, 6)), 0, None) ** 0.5
    hiss = 1e-4 * rng.standard_normal(len(time))
    return (0.1 * voice * syllables + hiss).astype(np.float32)


def chord(keys: Sequence[int], seconds: float = 2.0) -> Waveform:
    """Sustained tones of MIDI `keys`, each with three harmonics."""
    time = np.arange(round(seconds * SAMPLE_RATE)) / SAMPLE_RATE
    tones = [440 * 2 ** ((key - 69) / 12) for key in keys]
    sound = sum(np.sin(2 * np.pi * tone * n * time) / n**2 for tone in tones for n in (1, 2, 3))
    return (0.1 * np.asarray(sound)).astype(np.float32)


def clicks(beats_per_minute: float, seconds: float = 5.0) -> Waveform:
    """A click track: short bursts of noise, every fourth one louder."""
    rng = np.random.default_rng(0)
    track = 1e-4 * rng.standard_normal(round(seconds * SAMPLE_RATE))
    step = 60.0 / beats_per_minute
    for beat in range(int(seconds / step)):
        start = round(beat * step * SAMPLE_RATE)
        burst = rng.standard_normal(800) * np.exp(-np.arange(800) / 100)
        stop = min(start + 800, len(track))
        track[start:stop] += (0.3 if beat % 4 else 0.4) * burst[: stop - start]
    return track.astype(np.float32)
