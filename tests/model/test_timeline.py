"""From clip to windows and from windows to clip, on constructed probabilities."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from model.timeline import LARGEST_EVIDENCE, LARGEST_LOG_ODDS, Span, aggregate, windows_of

RATE = 16_000


def probabilities_of(spans: list[Span], ours: Span) -> list[float]:
    """A perfect detector's: the share of the window that is ours, never quite sure."""
    shares = [max(0.0, min(b, ours[1]) - max(a, ours[0])) / (b - a) for a, b in spans]
    return [0.01 + 0.98 * share for share in shares]


def test_windows_begin_every_half_second_and_the_last_ends_with_the_clip() -> None:
    waveform = np.arange(round(4.7 * RATE), dtype=np.float32)
    windows, spans = windows_of(waveform, 3.0, 0.5)
    assert [start for start, _ in spans] == pytest.approx([0, 0.5, 1.0, 1.5, 1.7])
    assert [stop for _, stop in spans] == pytest.approx([3, 3.5, 4.0, 4.5, 4.7])
    for window, (start, stop) in zip(windows, spans, strict=True):
        assert np.array_equal(window, waveform[round(start * RATE) : round(stop * RATE)])


def test_a_whole_number_of_hops_has_no_extra_window() -> None:
    assert len(windows_of(np.zeros(4 * RATE, np.float32), 3.0, 0.5)[0]) == 3


@pytest.mark.parametrize("seconds", [1 / RATE, 1.0, 2.99])
def test_a_short_clip_is_one_window(seconds: float) -> None:
    windows, spans = windows_of(np.zeros(round(seconds * RATE), np.float32), 3.0, 0.5)
    assert len(windows) == 1 and len(windows[0]) == round(seconds * RATE)
    assert spans == [(0.0, pytest.approx(seconds))]


def test_one_window_is_its_own_evidence() -> None:
    assert aggregate([0.83], [(0.0, 2.0)]).probability == pytest.approx(0.83)


def test_nothing_is_no_evidence() -> None:
    assert aggregate([], []).probability == 0 and aggregate([], []).segments == ()


def test_long_agreement_is_worth_more_than_one_window() -> None:
    spans = windows_of(np.zeros(9 * RATE, np.float32), 3.0, 0.5)[1]
    together = aggregate([0.8] * len(spans), spans)
    # 13 windows over 9 s: three windows' worth of log-odds log(4)
    assert together.probability == pytest.approx(4**3 / (1 + 4**3))
    assert together.segments == ((0.0, 9.0),)


def test_real_sound_around_it_does_not_count_against_it() -> None:
    spans = windows_of(np.zeros(30 * RATE, np.float32), 3.0, 0.5)[1]
    probabilities = probabilities_of(spans, (10.0, 20.0))
    found = aggregate(probabilities, spans)
    inside = [(p, s) for p, s in zip(probabilities, spans, strict=True) if s[0] >= 9.5 and s[1] <= 20.5]
    alone = aggregate([p for p, _ in inside], [s for _, s in inside])
    assert found.probability >= alone.probability > 0.99
    (segment,) = found.segments
    assert segment == pytest.approx((10.0, 20.0), abs=0.5)


def test_a_single_doubtful_window_does_not_decide() -> None:
    spans = windows_of(np.zeros(10 * RATE, np.float32), 3.0, 0.5)[1]
    probabilities = [0.05] * len(spans)
    probabilities[7] = 0.95
    found = aggregate(probabilities, spans)
    assert found.probability < 0.5 and found.segments == ()


def test_the_end_of_an_answer_is_found() -> None:
    """3 s of a recording and 5 s of ours: intersection over union of at least 0.8."""
    spans = windows_of(np.zeros(8 * RATE, np.float32), 3.0, 0.5)[1]
    (segment,) = aggregate(probabilities_of(spans, (3.0, 8.0)), spans).segments
    overlap = min(segment[1], 8.0) - max(segment[0], 3.0)
    assert overlap / (max(segment[1], 8.0) - min(segment[0], 3.0)) >= 0.8


def test_certainty_is_limited() -> None:
    spans = windows_of(np.zeros(60 * RATE, np.float32), 3.0, 0.5)[1]
    sure = aggregate([1.0], spans[:1]).probability
    assert sure == pytest.approx(1 / (1 + np.exp(-LARGEST_LOG_ODDS)))
    assert aggregate([1.0] * len(spans), spans).probability == pytest.approx(
        1 / (1 + np.exp(-LARGEST_EVIDENCE))
    )


@given(st.lists(st.floats(0, 1), min_size=1, max_size=40), st.integers(0, 39))
def test_more_suspicious_windows_never_make_a_clip_less_suspicious(
    probabilities: list[float], at: int
) -> None:
    spans = [(0.5 * i, 0.5 * i + 3.0) for i in range(len(probabilities))]
    before = aggregate(probabilities, spans)
    at %= len(probabilities)
    raised = [*probabilities[:at], (probabilities[at] + 1) / 2, *probabilities[at + 1 :]]
    assert aggregate(raised, spans).probability >= before.probability - 1e-12
    ends = [edge for segment in before.segments for edge in segment]
    assert ends == sorted(ends) and all(0 <= edge <= spans[-1][1] for edge in ends)
