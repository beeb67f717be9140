"""Estimates with their uncertainty: bootstrap for means, Wilson for shares.

Every number that comes from a handful of clips carries its 95 % interval. Randomness is passed in.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

RESAMPLES = 2000


@dataclass(frozen=True)
class Estimate:
    """A mean with its 95 % interval over `count` independent clips."""

    mean: float
    low: float
    high: float
    count: int


def bootstrap_mean(values: Sequence[float], rng: np.random.Generator) -> Estimate:
    """Percentile bootstrap (Efron 1979) of the mean of `values`; nan values are left out."""
    judged = np.array([value for value in values if not math.isnan(value)], dtype=np.float64)
    if judged.size == 0:
        return Estimate(math.nan, math.nan, math.nan, 0)
    means = rng.choice(judged, size=(RESAMPLES, judged.size)).mean(axis=1)
    low, high = np.quantile(means, [0.025, 0.975])
    return Estimate(float(judged.mean()), float(low), float(high), int(judged.size))


def per_prompt(values: Sequence[float], takes: int) -> list[float]:
    """Means over each prompt's `takes` values, which follow each other and are not independent. nan is left out."""
    means = []
    for start in range(0, len(values), takes):
        judged = [value for value in values[start : start + takes] if not math.isnan(value)]
        means.append(sum(judged) / len(judged) if judged else math.nan)
    return means


def share(successes: float, trials: int) -> Estimate:
    """Share of successes with Wilson's score interval (1927), which stays honest at 0 and 1.

    A trial may succeed in part: the share of one prompt's takes. The interval is that of whole ones, so rather wide."""
    if trials == 0:
        return Estimate(math.nan, math.nan, math.nan, 0)
    z = 1.959964
    p = successes / trials
    centre = (p + z * z / (2 * trials)) / (1 + z * z / trials)
    half = z / (1 + z * z / trials) * math.sqrt(p * (1 - p) / trials + z * z / (4 * trials * trials))
    return Estimate(p, max(0.0, centre - half), min(1.0, centre + half), trials)
