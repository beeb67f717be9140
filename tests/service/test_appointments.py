"""Refused callers are sent back one after the other, and nobody for ever."""

from __future__ import annotations

import pytest

from service.appointments import FARTHEST, SOONEST, Appointments


def test_who_is_refused_at_once_comes_back_one_by_one() -> None:
    appointments = Appointments(60.0)
    assert [appointments.give(100.0, 8.0, 0.5) for _ in range(4)] == [8.0, 8.5, 9.0, 9.5]
    assert appointments.give(103.0, 2.0, 0.5) == pytest.approx(7.0)  # behind them, at 110


def test_times_that_have_passed_hold_nobody_back() -> None:
    appointments = Appointments(60.0)
    for _ in range(10):
        appointments.give(0.0, 1.0, 2.0)
    assert appointments.give(50.0, 3.0, 2.0) == 3.0
    assert Appointments(60.0).give(0.0, 0.0, 2.0) == SOONEST


def test_a_flood_of_refusals_sends_nobody_away_for_long() -> None:
    appointments = Appointments(10.0)
    waits = [appointments.give(0.0, 5.0, 1.0) for _ in range(10_000)]
    assert max(waits) == FARTHEST * 10.0
