"""Probabilities and thresholds fitted on scores whose law is known."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from model.training.calibration import FALSE_POSITIVES, LEAST_SCALE, choose_threshold, fit, operating_points


def scores(count: int, shift: float, seed: int) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    return np.random.default_rng(seed).normal(shift, 1.0, count)


def test_the_scale_and_offset_of_two_normal_classes_are_found() -> None:
    """Classes N(+1, 1) and N(-1, 1) have the log-odds 2 x; ten times as many of one must not shift it."""
    ours, others = scores(4_000, 1.0, 0), scores(40_000, -1.0, 1)
    labels = np.concatenate([np.ones(len(ours), bool), np.zeros(len(others), bool)])
    scale, offset = fit(np.concatenate([ours, others]) / 4 + 3, labels)  # 2 x = 8 (x / 4 + 3) - 24
    assert scale == pytest.approx(8, rel=0.05) and offset == pytest.approx(-24, rel=0.05)


def test_classes_that_do_not_overlap_get_a_finite_scale() -> None:
    scale, offset = fit(np.array([-3.0, -2.0, 2.0, 3.0]), np.array([False, False, True, True]))
    assert 0 < scale < 10 and abs(offset) < 1


@given(st.lists(st.tuples(st.floats(-20, 20), st.booleans()), min_size=2, max_size=60))
def test_a_probability_never_falls_as_the_logit_grows(pairs: list[tuple[float, bool]]) -> None:
    logits, labels = np.array([p[0] for p in pairs]), np.array([p[1] for p in pairs])
    scale, offset = fit(logits, labels)
    assert scale >= LEAST_SCALE and np.isfinite(offset)


def test_a_threshold_lets_through_no_more_than_it_may() -> None:
    negatives = np.random.default_rng(0).uniform(0, 1, 5_000)
    threshold = choose_threshold(negatives)
    reached = (negatives >= threshold).sum()
    assert reached == int(FALSE_POSITIVES * 5_000)
    assert choose_threshold(np.array([0.1, 0.2])) == 0.5  # never below even odds
    assert choose_threshold(np.array([0.1, 0.9])) > 0.9


def test_rates_are_those_of_other_clips_than_the_threshold() -> None:
    points = operating_points(
        {"1-2 s": 1.0, "2-3 s": 2.0},
        [np.array([0.3, 0.6]), np.array([])],
        [np.array([0.7, 0.8, 0.2, 0.9]), np.array([0.9])],
        [np.array([0.1] * 9 + [0.95]), np.array([0.1])],
    )
    (point,) = points  # the second range had nothing to choose a threshold on
    assert (point.bucket, point.clips) == ("1-2 s", 10)
    assert 0.6 < point.threshold < 0.61
    assert point.true_positive_rate == 0.75 and point.false_positive_rate == 0.1
    assert point.upper_bound == pytest.approx(0.394, abs=0.001)  # Clopper-Pearson, 1 of 10, 95 %
