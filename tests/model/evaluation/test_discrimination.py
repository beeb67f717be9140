"""Figures of two classes of scores, against values known from elsewhere."""

from __future__ import annotations

import math

import numpy as np
import pytest

from model.evaluation.discrimination import auc, calibration_error, equal_error_rate, upper_bound


def test_area_counts_pairs_and_halves_ties() -> None:
    assert auc(np.array([3.0, 1.0]), np.array([2.0, 1.0])).mean == pytest.approx((2 + 0.5) / 4)
    assert auc(np.array([1.0, 2.0]), np.array([0.0])).mean == 1
    assert math.isnan(auc(np.array([]), np.array([1.0])).mean)


def test_area_of_normal_classes_and_its_interval() -> None:
    rng = np.random.default_rng(0)
    found = auc(rng.normal(1, 1, 2_000), rng.normal(0, 1, 2_000))
    assert found.low < 0.7602 < found.high  # Phi(1 / sqrt(2))
    assert found.high - found.low == pytest.approx(0.029, abs=0.004)


def test_equal_error_rate_of_normal_classes() -> None:
    rng = np.random.default_rng(1)
    assert equal_error_rate(rng.normal(2, 1, 20_000), rng.normal(0, 1, 20_000)) == pytest.approx(
        0.1587, abs=0.01
    )


def test_nothing_wrong_in_three_thousand_is_one_in_a_thousand_at_most() -> None:
    assert upper_bound(0, 3_000) == pytest.approx(1 - 0.05 ** (1 / 3_000))
    assert upper_bound(0, 3_000) < 1e-3
    assert upper_bound(5, 5) == 1 and upper_bound(0, 0) == 1


def test_calibration_error_is_the_distance_of_promise_and_outcome() -> None:
    labels = np.array([True] * 8 + [False] * 2)
    assert calibration_error(np.full(10, 0.8), labels) == pytest.approx(0)
    assert calibration_error(np.full(10, 0.3), labels) == pytest.approx(0.5)
