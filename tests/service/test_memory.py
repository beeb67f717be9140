"""Callers who leave cost no memory, and a server that forgets nothing is noticed. `make bench` sends 2,000 of them."""

from __future__ import annotations

import os

import pytest

from tests.service.aborts import growth
from tests.service.processes import process

REQUESTS, WARM_UP = 240, 120
UNLIMITED = {"max_queue_size": 1000, "max_backlog_seconds": 1e9, "deadline_seconds": 1e9}
pytestmark = pytest.mark.skipif(not os.path.exists("/proc/self/status"), reason="memory is read from /proc")


@pytest.mark.parametrize("leak", [False, True], ids=["the service", "a leaking control"])
def test_aborted_requests_leave_memory_flat(leak: bool) -> None:
    options = {"slots": 8, "step_seconds": 0.001, "leak": leak}
    with process(options, **UNLIMITED) as server:
        grown = growth(server, REQUESTS, warm_up=WARM_UP, samples=20)
        reached = server.metric('audiolm_continuations_total{reason="cancelled"}')
    print(grown)
    assert reached > (REQUESTS + WARM_UP) / 5  # most left while they were worked on, not before
    assert grown.leaks == leak
