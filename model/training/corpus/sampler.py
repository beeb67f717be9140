"""A piano from a folder of recorded notes: the nearest sample, resampled to the pitch, one wave per key.

Reads note names from file names ("D#4vL.flac", "Fs3.ogg"; a layer after "v" is optional: L soft, H hard).
Loops of a sampler format are not used: the recordings outlast the notes.
"""

from __future__ import annotations

import re
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from model.errors import AudioError
from model.training.corpus.performance import Performance
from model.training.corpus.room import fast_length
from model.training.corpus.waveform import SAMPLE_RATE, Waveform, read_waveform, resample

FILE_NAME = re.compile(r"^([A-G])(s|#|b)?(\d)(?:v([A-Z0-9]+))?\.(?:flac|ogg|wav)$")
SEMITONES = {"C": 0, "D": 2, "E": 4, "F": 5, "G": 7, "A": 9, "B": 11}
ACCIDENTALS = {"s": 1, "#": 1, "b": -1, None: 0}
SOFT_UP_TO = 80  # velocity
NO_DAMPERS_FROM = 90  # the top strings of a piano ring on
LONGEST = 9.0  # seconds of a recorded note that are used


class Sampler:
    """Plays performances with the recorded notes of one folder; keeps the waves of the keys it has played."""

    def __init__(self, folder: Path) -> None:
        self.files: dict[str, dict[int, Path]] = {}  # layer -> pitch -> file
        for file in sorted(folder.rglob("*")):
            if match := FILE_NAME.match(file.name):
                letter, accidental, octave, layer = match.groups()
                pitch = 12 * (int(octave) + 1) + SEMITONES[letter] + ACCIDENTALS[accidental]
                self.files.setdefault(layer or "", {})[pitch] = file
        if not self.files:
            raise AudioError(f"{folder} holds no samples named after notes", code="no_samples")
        self._waves: dict[tuple[int, str], Waveform] = {}

    def play(self, performance: Performance, seconds: float) -> Waveform:
        """waveform [seconds * 16000], not normalized."""
        sound = np.zeros(round(seconds * SAMPLE_RATE), dtype=np.float32)
        for note in performance.notes:
            start = round(note.onset * SAMPLE_RATE)
            wave = self._wave(note.pitch, note.velocity)
            released = _release_time(note.onset + note.duration, performance.pedal) - note.onset
            if note.pitch < NO_DAMPERS_FROM:
                wave = _damped(wave, released, 0.08 if note.pitch > 48 else 0.15)
            wave = wave[: len(sound) - start]
            sound[start : start + len(wave)] += wave * np.float32((note.velocity / 127.0) ** 1.8)
        return sound

    def _wave(self, pitch: int, velocity: int) -> Waveform:
        layers = sorted(self.files, reverse=velocity <= SOFT_UP_TO)  # H before L, so reversed is soft first
        bright = self._at_pitch(pitch, layers[0])
        if len(layers) > 1 or velocity > SOFT_UP_TO:
            return bright
        # One recorded strength: a softer stroke is a duller one.
        share = np.float32(0.25 + 0.75 * velocity / SOFT_UP_TO)
        return bright * share + self._at_pitch(pitch, layers[0], dull=True) * (1 - share)

    def _at_pitch(self, pitch: int, layer: str, dull: bool = False) -> Waveform:
        key = (pitch, f"{layer} dull" if dull else layer)
        if key not in self._waves:
            if dull:
                self._waves[key] = _dull(self._at_pitch(pitch, layer))
            else:
                recorded = self.files[layer]
                nearest = min(recorded, key=lambda candidate: abs(candidate - pitch))
                source = read_waveform(recorded[nearest], 32_000)[: round(LONGEST * 32_000)]
                wave = resample(source, 32_000 * 2.0 ** ((pitch - nearest) / 12.0), SAMPLE_RATE)
                loudest = np.abs(wave).max()
                first = int(np.argmax(np.abs(wave) > 0.02 * loudest))  # recordings begin with some silence
                self._waves[key] = (wave[max(0, first - 16) :] / _strength(wave[first:])).astype(np.float32)
        return self._waves[key]


@lru_cache(maxsize=4)
def load_sampler(folder: Path) -> Sampler:
    """One sampler per process and folder, so that samples are decoded once."""
    return Sampler(folder)


def _strength(wave: Waveform) -> float:
    """Loudness of the first 0.4 s: every key and layer is brought to the same, then velocity decides."""
    return float(np.sqrt(np.mean(wave[: round(0.4 * SAMPLE_RATE)].astype(np.float64) ** 2))) + 1e-9


def _dull(wave: Waveform) -> Waveform:
    length = fast_length(2 * len(wave))
    frequency = np.fft.rfftfreq(length, 1.0 / SAMPLE_RATE)
    softened = np.fft.irfft(np.fft.rfft(wave, length) / (1.0 + (frequency / 900.0) ** 2), length)
    return np.asarray(softened[: len(wave)], dtype=np.float32)


def _damped(wave: Waveform, released: float, fall: float) -> Waveform:
    """The wave until its key (or the pedal) goes up, then a fall with the time constant `fall`."""
    start = round(released * SAMPLE_RATE)
    if start >= len(wave):
        return wave
    tail: NDArray[np.float32] = np.exp(-np.arange(round(5 * fall * SAMPLE_RATE)) / (fall * SAMPLE_RATE))
    result = wave[: start + len(tail)].copy()
    result[start:] *= tail[: len(result) - start].astype(np.float32)
    return result


def _release_time(key_up: float, pedal: tuple[tuple[float, int], ...]) -> float:
    """When the damper falls: at key up, or when a pedal that is down then goes up."""
    down = False
    for time, value in pedal:
        if time <= key_up:
            down = value >= 64
        elif down and value < 64:
            return time
        elif not down:
            break
    return 1e9 if down else key_up
