"""Does a piano continuation keep the key and the tempo of its prompt, better than another clip would?

Key: correlation of the mean pitch classes. Tempo: overlap of the intervals between notes (`model.evaluation.rhythm`).
Each is also measured between the prompt and the continuations of other prompts (what a system that ignores its prompt
would score), and between the prompt and its true continuation, as it is (what a pianist scores) and through the codec
(what the best stages could). Knows waveforms [N] at 16 kHz only.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
from numpy.typing import NDArray

from model.evaluation.rhythm import intervals, overlap
from model.evaluation.spectral import Waveform, chroma
from model.evaluation.statistics import bootstrap_mean, per_prompt


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
    "tempo": (intervals, overlap),  # 1 for the same pace, about 0.25 for other music
}


def evaluate_piano(
    prompts: Sequence[Waveform],
    continuations: Sequence[Waveform],
    truths: Sequence[Waveform],
    coded: Sequence[Waveform],
    performers: Sequence[str],
    rng: np.random.Generator,
    takes: int = 1,
) -> dict[str, Any]:
    """For each similarity, its mean with interval between a prompt and: its continuation, others', the truth, the truth
    through the codec (`coded`).

    `margin` is the paired difference of the first two. Clips of the same performer or piece are not "others". The
    `takes` continuations of a prompt follow each other; intervals are over prompts.
    """
    result = {}
    for name, (feature, similarity) in SIMILARITIES.items():
        heard, made, played, decoded = (
            [feature(clip) for clip in clips] for clips in (prompts, continuations, truths, coded)
        )
        own, true, ceiling = (
            [similarity(a, b) for a, b in zip(heard, clips, strict=True)] for clips in (made, played, decoded)
        )
        other = []
        for i, prompt in enumerate(heard):
            strangers = [b for b, who in zip(made, performers, strict=True) if who != performers[i]]
            other.append(_mean([similarity(prompt, stranger) for stranger in strangers]))
        margin = [mine - theirs for mine, theirs in zip(own, other, strict=True)]
        columns = {"continuation": own, "other": other, "margin": margin, "truth": true, "ceiling": ceiling}
        result[name] = {
            column: asdict(bootstrap_mean(per_prompt(values, takes), rng))
            for column, values in columns.items()
        }
    return result


def _mean(values: Sequence[float]) -> float:
    known = [value for value in values if not math.isnan(value)]
    return sum(known) / len(known) if known else float("nan")
