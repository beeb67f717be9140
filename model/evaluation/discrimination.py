"""How well scores tell two classes apart, and how sure that is.

Area under the ROC curve with its interval (Hanley & McNeil 1982), equal error rate, the exact upper bound of a rate
(Clopper & Pearson 1934), expected calibration error. Knows scores, no detector.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
from scipy.special import betaincinv

from model.evaluation.statistics import Estimate

Scores = npt.NDArray[np.floating]


def auc(positives: Scores, negatives: Scores) -> Estimate:
    """Chance that a positive scores above a negative, ties counting half; nan without both. count: scores of both."""
    n, m = len(positives), len(negatives)
    if n == 0 or m == 0:
        return Estimate(math.nan, math.nan, math.nan, n + m)
    ordered = np.sort(negatives)
    below = np.searchsorted(ordered, positives, "left") + np.searchsorted(ordered, positives, "right")
    area = float(below.sum() / (2 * n * m))
    both, twice = area / (2 - area), 2 * area**2 / (1 + area)
    variance = (area * (1 - area) + (n - 1) * (both - area**2) + (m - 1) * (twice - area**2)) / (n * m)
    half = 1.959964 * math.sqrt(max(0.0, variance))
    return Estimate(area, max(0.0, area - half), min(1.0, area + half), n + m)


def equal_error_rate(positives: Scores, negatives: Scores) -> float:
    """Where as many positives are missed as negatives are taken for positives."""
    thresholds = np.unique(np.concatenate([positives, negatives]))
    missed = np.searchsorted(np.sort(positives), thresholds) / max(1, len(positives))
    false = 1 - np.searchsorted(np.sort(negatives), thresholds) / max(1, len(negatives))
    at = int(np.argmin(np.abs(missed - false)))
    return float((missed[at] + false[at]) / 2)


def upper_bound(events: int, trials: int, confidence: float = 0.95) -> float:
    """The rate that would have shown more than `events` in `trials` with `confidence`; 1 without trials."""
    return 1.0 if events >= trials else float(betaincinv(events + 1, trials - events, confidence))


def calibration_error(probabilities: Scores, labels: npt.NDArray[np.bool_], bins: int = 10) -> float:
    """Mean distance of stated probability and observed share over bins of equal width, weighted by their counts."""
    at = np.minimum((np.asarray(probabilities) * bins).astype(int), bins - 1)
    error = 0.0
    for number in np.unique(at):
        chosen = at == number
        error += chosen.mean() * abs(float(probabilities[chosen].mean()) - float(labels[chosen].mean()))
    return float(error)
