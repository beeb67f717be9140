"""Too much load against the fake engine, whose speed is known: goodput stays, and refusals tell the truth."""

from __future__ import annotations

import pytest

from service.client import AsyncClient
from service.load import Load
from tests.benchmarks.overload import overload, retries, verdicts
from tests.service.conftest import clip
from tests.service.processes import process

pytestmark = pytest.mark.anyio
SECONDS, STEP_SECONDS, SLOTS = 0.5, 0.06, 2  # three steps each, two requests side by side
CAPACITY = SLOTS / (3 * STEP_SECONDS)  # requests per second, on a machine that has nothing else to do


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


async def test_twice_the_load_costs_no_goodput_and_who_comes_back_is_let_in() -> None:
    with process({"step_seconds": STEP_SECONDS, "slots": SLOTS}, max_backlog_seconds=1.5) as server:
        body = clip(0.6)
        async with AsyncClient(str(server.http.base_url), retries=0) as client:
            load = Load(client, body, seconds=SECONDS)
            full = [await load.closed(4, 1.0)]
            reports = await overload(client, body, SECONDS, CAPACITY, 3.0, 30.0)
            full.append(await load.closed(4, 1.0))
            came_back = await retries(client, body, SECONDS, 60)
    peak = min(report.succeeded / report.elapsed for report in full)  # it may have got busier meanwhile
    found = verdicts(peak, reports, came_back)
    print(found)
    assert reports[1].errors.keys() == {"429 overloaded"}
    assert found["goodput_kept_at_twice_the_load"] > 0.5  # nine tenths where nothing else runs
    assert came_back.refused > 0
    assert found["retry_after_is_honest"]
