"""How much work passes in a second, from which waiting times are told."""

from __future__ import annotations

import pytest

from model.engine.budget import PACE_SECONDS, Pace


def test_two_threads_get_two_seconds_of_work_done_in_one_and_pauses_do_not_count() -> None:
    pace, now = Pace(), 0.0
    for step in range(200):
        pace.look(now, busy=True)
        pace.did(2 * PACE_SECONDS / 4)
        now += PACE_SECONDS / 4
        if step % 50 == 49:
            pace.look(now, busy=False)
            now += 100.0
    assert pace.value == pytest.approx(2.0, rel=0.05)


def test_a_thread_that_waits_for_its_only_request_is_no_slower_than_the_clock() -> None:
    pace = Pace()
    for step in range(100):
        pace.look(PACE_SECONDS * step, busy=True)
        pace.did(0.1 * PACE_SECONDS)
    assert pace.value == 1.0
