from __future__ import annotations

import pytest

from model.evaluation.segments import joined, overlap, seconds_inside


def test_spans_that_touch_or_overlap_become_one() -> None:
    assert joined([(5.0, 6.0), (1.0, 2.0), (2.0, 3.0), (5.5, 5.7), (4.0, 4.0)]) == [(1.0, 3.0), (5.0, 6.0)]


def test_seconds_inside_are_counted_once() -> None:
    assert seconds_inside([(0.0, 2.0), (1.0, 3.0)], (0.5, 2.5)) == pytest.approx(2.0)
    assert seconds_inside([], (0.0, 1.0)) == 0


@pytest.mark.parametrize(
    ("told", "truth", "expected"),
    [
        ([(3.0, 8.0)], [(3.0, 8.0)], 1.0),
        ([(3.5, 8.0)], [(3.0, 8.0)], 0.9),
        ([(2.0, 7.0)], [(3.0, 8.0)], 4 / 6),
        ([(0.0, 1.0), (9.0, 10.0)], [(0.0, 1.0)], 0.5),
        ([], [(3.0, 8.0)], 0.0),
        ([], [], 1.0),
    ],
)
def test_overlap_is_intersection_over_union(
    told: list[tuple[float, float]], truth: list[tuple[float, float]], expected: float
) -> None:
    assert overlap(told, truth) == pytest.approx(expected)
    assert overlap(truth, told) == pytest.approx(expected)
