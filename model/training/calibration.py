"""From logits to probabilities, and from probabilities to decisions that are known to be wrong so often and no oftener.

Decisions held here: a probability is sigmoid(scale * logit + offset) (Platt 1999), fitted with both classes counting
alike; it grows with the logit. A threshold is the lowest that at most FALSE_POSITIVES of the clips it was chosen on
reach, if none of them is ours; its rates are measured on other clips.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from model.config import OperatingPoint
from model.evaluation.discrimination import upper_bound

FALSE_POSITIVES = 0.002
LOWEST_THRESHOLD = 0.5
LEAST_SCALE = 0.05
STEPS = 1_000_000  # of probabilities, as they are answered
SHRINKAGE = (
    1.0  # pseudo-observations that hold the scale near 1: classes that do not overlap have no best scale
)
Scores = npt.NDArray[np.float64]


def fit(logits: Scores, ours: npt.NDArray[np.bool_]) -> tuple[float, float]:
    """(scale, offset) with the highest likelihood of labels `ours`, by Newton's method."""
    weights = np.where(ours, 0.5 / max(1, ours.sum()), 0.5 / max(1, (~ours).sum())) * len(logits)
    parameters = np.array([1.0, 0.0])
    inputs = np.stack([logits, np.ones_like(logits)], 1)
    for _ in range(50):
        expected = 1 / (1 + np.exp(-np.clip(inputs @ parameters, -40, 40)))
        gradient = inputs.T @ (weights * (expected - ours)) + SHRINKAGE * (parameters - [1.0, 0.0])
        curvature = inputs.T @ (inputs * (weights * expected * (1 - expected))[:, None]) + SHRINKAGE * np.eye(
            2
        )
        step = np.linalg.solve(curvature, gradient)
        parameters = parameters - step * min(1.0, 2.0 / max(1e-9, float(np.abs(step).max())))
        if np.abs(step).max() < 1e-6:
            break
    return max(LEAST_SCALE, float(parameters[0])), float(parameters[1])


def choose_threshold(negatives: Scores) -> float:
    """The lowest threshold that at most FALSE_POSITIVES of clips that are not ours reach."""
    if len(negatives) == 0:
        return 1.0
    allowed = math.floor(FALSE_POSITIVES * len(negatives))
    highest = np.sort(negatives)[::-1]
    return max(LOWEST_THRESHOLD, (math.floor(float(highest[allowed]) * STEPS) + 1) / STEPS)


def operating_points(
    buckets: Mapping[str, float],
    chosen_on: Sequence[Scores],
    positives: Sequence[Scores],
    negatives: Sequence[Scores],
) -> tuple[OperatingPoint, ...]:
    """A point per bucket (name -> shortest clip in seconds) that has clips of both classes to measure it on.

    Scores are clips' probabilities: `chosen_on` not ours, for the threshold; `positives`, `negatives` for the rates.
    """
    points = []
    for (bucket, least), fitted, ours, others in zip(
        buckets.items(), chosen_on, positives, negatives, strict=True
    ):
        if len(fitted) == 0 or len(ours) == 0 or len(others) == 0:
            continue
        threshold = choose_threshold(fitted)
        false = int((others >= threshold).sum())
        points.append(
            OperatingPoint(
                bucket,
                least,
                threshold,
                false / len(others),
                upper_bound(false, len(others)),
                len(others),
                float((ours >= threshold).mean()),
            )
        )
    return tuple(points)
