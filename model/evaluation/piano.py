"""Does a piano continuation keep the key and the tempo of its prompt, better than another clip would?

Key: correlation of the mean pitch classes. Tempo: autocorrelation of the onset strength. Each is also measured
between the prompt and the continuations of other prompts (what a system that ignores its prompt would score) and
between the prompt and its true continuation (what a pianist scores). Knows waveforms [N] at 16 kHz only.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
from numpy.typing import NDArray

from model.evaluation.spectral import Waveform, chroma, log_mel
from model.evaluation.statistics import bootstrap_mean

ONSET_WINDOW = 512
ONSET_RATE = 125.0  # onset strengths per second: a quarter of the window is 128 samples
SLOWEST, FASTEST = 40.0, 240.0  # beats per minute
USUAL_TEMPO, TEMPO_OCTAVES = 110.0, 0.9  # centre and width of the prior (Ellis 2007, section 3)
TEMPO_TOLERANCE = 0.08  # as in MIREX tempo estimation


def onset_strength(waveform: Waveform) -> NDArray[np.float64]:
    """Rise of log-mel energy, summed over bands, at 125 Hz, [frames] (Ellis, "Beat tracking by DP", 2007)."""
    rise = np.diff(log_mel(waveform, ONSET_WINDOW, 40), axis=1)
    strength = np.maximum(rise, 0.0).mean(axis=0).astype(np.float64)
    return np.asarray(strength - strength.mean())


def rhythm(waveform: Waveform) -> NDArray[np.float64]:
    """Autocorrelation of the onset strength at lags of one frame up to the slowest beat, [lags], 1 at lag 0."""
    strength = onset_strength(waveform)
    num_lags = int(ONSET_RATE * 60.0 / SLOWEST) + 1
    strength = np.pad(strength, (0, max(0, num_lags + 1 - len(strength))))
    spectrum = np.fft.rfft(strength, 2 * len(strength))
    correlation = np.fft.irfft(np.abs(spectrum) ** 2)[: num_lags + 1]
    overlap = len(strength) - np.arange(num_lags + 1)  # unbiased: later lags see fewer frames
    correlation = correlation / np.maximum(overlap, len(strength) / 4)
    return np.asarray(correlation[1:] / max(correlation[0], 1e-12))


def tempo(waveform: Waveform) -> float:
    """Beats per minute, 40 to 240; nan where nothing repeats."""
    correlation = rhythm(waveform)
    beats = 60.0 * ONSET_RATE / np.arange(1, len(correlation) + 1)
    prior = np.exp(-0.5 * (np.log2(beats / USUAL_TEMPO) / TEMPO_OCTAVES) ** 2)
    score = np.where((beats >= SLOWEST) & (beats <= FASTEST), correlation * prior, -np.inf)
    best = int(np.argmax(score))
    return float(beats[best]) if correlation[best] > 0.0 else float("nan")


def tempo_deviation(first: float, second: float) -> float:
    """Distance of two tempi in octaves, 0 to 0.5; doubling or halving the beat counts as the same tempo."""
    octaves = abs(math.log2(first / second))
    return abs(octaves - round(octaves))


def tempo_agreement(first: float, second: float) -> float:
    """1 where two tempi agree within 8 % (beats may be doubled or halved), 0 elsewhere, nan where one is unknown."""
    if math.isnan(first + second):
        return float("nan")
    return float(tempo_deviation(first, second) <= math.log2(1.0 + TEMPO_TOLERANCE))


def pitch_classes(waveform: Waveform) -> NDArray[np.float64]:
    """Mean energy of the pitch classes, [12] from C (Müller, "Fundamentals of Music Processing", 5.2)."""
    return np.asarray(chroma(waveform).mean(axis=1), np.float64)


def correlation(first: NDArray[np.float64], second: NDArray[np.float64]) -> float:
    """Pearson's correlation of two vectors; nan where one of them does not vary."""
    first, second = first - first.mean(), second - second.mean()
    norm = float(np.linalg.norm(first) * np.linalg.norm(second))
    return float(first @ second) / norm if norm > 1e-12 else float("nan")


SIMILARITIES: dict[str, tuple[Callable[[Waveform], Any], Callable[[Any, Any], float]]] = {
    "key": (pitch_classes, correlation),  # 1 for the same notes, about 0.2 for other music
    "rhythm": (rhythm, correlation),  # 1 for the same pulse
    "tempo": (tempo, tempo_agreement),
}


def evaluate_piano(
    prompts: Sequence[Waveform],
    continuations: Sequence[Waveform],
    truths: Sequence[Waveform],
    performers: Sequence[str],
    rng: np.random.Generator,
) -> dict[str, Any]:
    """For each similarity, its mean with interval between a prompt and: its continuation, others', the truth.

    `margin` is the paired difference of the first two. Clips of the same performer or piece are not "others".
    """
    result = {}
    for name, (feature, similarity) in SIMILARITIES.items():
        heard, made, played = (
            [feature(clip) for clip in clips] for clips in (prompts, continuations, truths)
        )
        own = [similarity(a, b) for a, b in zip(heard, made, strict=True)]
        true = [similarity(a, b) for a, b in zip(heard, played, strict=True)]
        other = []
        for i, prompt in enumerate(heard):
            strangers = [b for b, who in zip(made, performers, strict=True) if who != performers[i]]
            other.append(_mean([similarity(prompt, stranger) for stranger in strangers]))
        margin = [mine - theirs for mine, theirs in zip(own, other, strict=True)]
        columns = {"continuation": own, "other": other, "truth": true, "margin": margin}
        result[name] = {column: asdict(bootstrap_mean(values, rng)) for column, values in columns.items()}
    return result


def _mean(values: Sequence[float]) -> float:
    known = [value for value in values if not math.isnan(value)]
    return sum(known) / len(known) if known else float("nan")
