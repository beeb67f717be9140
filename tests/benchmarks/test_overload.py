"""Too much load against the fake engine, whose speed is known: goodput stays, and refusals tell the truth."""

from __future__ import annotations

import pytest

from service.client import AsyncClient
from service.load import Load
from tests.benchmarks.overload import overload, retries, verdicts
from tests.service.conftest import clip
from tests.service.processes import process

pytestmark = pytest.mark.anyio
SECONDS, STEP_SECONDS, SLOTS = 0.5, 0.06, 2  # three steps each, two requests side by side: 11 a second


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


async def test_twice_the_load_costs_no_goodput_and_who_comes_back_is_let_in() -> None:
    with process({"step_seconds": STEP_SECONDS, "slots": SLOTS}, max_backlog_seconds=1.5) as server:
        body = clip(0.6)
        async with AsyncClient(str(server.http.base_url), retries=0) as client:
            full = await Load(client, body, seconds=SECONDS).closed(4, 1.5)
            peak = full.succeeded / full.elapsed
            reports = await overload(client, body, SECONDS, peak, 3.0, 10.0)
            came_back = await retries(client, body, SECONDS, 40)
    found = verdicts(peak, reports, came_back)
    print(found)
    assert reports[1].errors.keys() == {"429 overloaded"}
    assert (
        found["goodput_kept_at_twice_the_load"] > 0.6
    )  # nine tenths on a machine that is doing nothing else
    assert came_back.refused > 5
    assert found["retry_after_is_honest"]
