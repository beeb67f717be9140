"""Clips to examine and clips to continue share one engine, and neither can crowd the other out."""

from __future__ import annotations

import asyncio
import threading

import httpx
import numpy as np
import pytest

from model.engine.scheduler import Batch
from service.provenance import Provenance
from tests.model.engine.fakes import VirtualClock
from tests.service.conftest import assert_problem, clip, serving
from tests.service.fakes import (
    DETECT,
    DETECT_SHARE,
    FakeDetector,
    FakeRunner,
    FakeWatermark,
    Gate,
    fake_worker,
    pause,
)

pytestmark = pytest.mark.anyio

BATCH_SECONDS = 0.003
FLOOD = 6


class Diary:
    """The stage of every batch that ran, with the request that it was for; every batch takes equally long by its
    clock. None runs until `begin` is set."""

    def __init__(self) -> None:
        self.batches: list[tuple[str, set[str]]] = []
        self.clock = VirtualClock()
        self.begin = threading.Event()

    def __call__(self, batch: Batch) -> None:
        assert_set(self.begin)
        self.clock.advance(BATCH_SECONDS)
        self.batches.append((batch.stage, {task.id for task in batch.tasks}))

    def while_it_ran(self, request_id: str) -> list[str]:
        """Stages of the batches from the first to the last one of `request_id`, which is not the last of all."""
        own = [i for i, (_, ids) in enumerate(self.batches) if request_id in ids]
        assert own[-1] < len(self.batches) - 1, "the flood was over too soon to tell"
        return [stage for stage, _ in self.batches[own[0] : own[-1] + 1]]


async def post(
    client: httpx.AsyncClient, url: str, seconds: float, request_id: str = "flood"
) -> httpx.Response:
    return await client.post(url, content=clip(seconds), headers={"X-Request-ID": request_id})


async def flooded(
    diary: Diary, slots: int, flood: tuple[str, float], one: tuple[str, float, str]
) -> tuple[httpx.Response, list[httpx.Response]]:
    """The answer to `one` beside FLOOD others, and theirs. The engine begins when all of them are in its hands."""
    worker = fake_worker(FakeRunner(slots=slots, before=diary, detector=FakeDetector()), clock=diary.clock)
    async with serving(worker=worker) as client:
        others = [asyncio.create_task(post(client, *flood)) for _ in range(FLOOD)]
        answer = asyncio.create_task(post(client, *one))
        async with asyncio.timeout(60):
            while len(worker.open_tickets) < FLOOD + 1:
                await asyncio.sleep(0.01)
        diary.begin.set()
        return await answer, await asyncio.gather(*others)


def shares(stages: list[str]) -> tuple[int, int]:
    """Batches of examinations and of continuations."""
    examining = stages.count(DETECT)
    return examining, len(stages) - examining


async def test_a_flood_of_clips_to_examine_leaves_continuations_their_share() -> None:
    diary = Diary()
    answer, others = await flooded(diary, 4, ("/detect", 20), ("/continue?seconds=5", 1, "continuation"))
    assert {response.status_code for response in (answer, *others)} == {200}
    examining, continuing = shares(diary.while_it_ran("continuation"))
    assert continuing >= 20
    assert 0 < examining <= 2 * continuing * DETECT_SHARE / (1 - DETECT_SHARE)


async def test_a_flood_of_continuations_leaves_clips_to_examine_their_share() -> None:
    diary = Diary()
    answer, others = await flooded(diary, 2, ("/continue?seconds=20", 1), ("/detect", 8, "examination"))
    assert {response.status_code for response in (answer, *others)} == {200}
    assert answer.json()["verdict"] == "no_evidence"
    examining, continuing = shares(diary.while_it_ran("examination"))
    assert examining == len(FakeDetector().windows_of(np.zeros(8 * 16_000, np.float32))[0])
    assert 0 < continuing <= 2 * examining * (1 - DETECT_SHARE) / DETECT_SHARE


@pytest.mark.parametrize("full", ["/detect", "/continue"])
async def test_each_has_a_queue_of_its_own(full: str) -> None:
    gate = Gate(DETECT if full == "/detect" else "encode")
    runner = FakeRunner(before=gate, detector=FakeDetector())
    other = "/continue" if full == "/detect" else "/detect"
    async with serving(runner, max_queue_size=2, max_detections=2) as client:
        accepted = [asyncio.create_task(post(client, full, 1)) for _ in range(2)]
        await asyncio.to_thread(gate.reached.wait, 60)
        worker = client.worker  # type: ignore[attr-defined]
        async with asyncio.timeout(60):
            while max(worker.open_jobs(DETECT), worker.open_continuations) < 2:
                await asyncio.sleep(0.01)
        assert_problem(await post(client, full, 1), 429, "overloaded")
        accepted.append(asyncio.create_task(post(client, other, 1)))
        await asyncio.sleep(0.05)
        gate.open()
        answers = await asyncio.gather(*accepted)
    assert [answer.status_code for answer in answers] == [200, 200, 200]


async def test_long_searches_for_the_watermark_hold_up_no_continuation() -> None:
    hold = threading.Event()
    watermark = FakeWatermark(lambda: assert_set(hold))
    async with serving(provenance=Provenance(watermark=watermark)) as client:
        examinations = [asyncio.create_task(post(client, "/detect", 1)) for _ in range(FLOOD)]
        for _ in range(3):
            assert (await post(client, "/continue?seconds=1", 1)).status_code == 200
        assert not any(task.done() for task in examinations)
        hold.set()
        assert {answer.status_code for answer in await asyncio.gather(*examinations)} == {200}


def assert_set(event: threading.Event) -> None:
    assert event.wait(60), "the test never let go"


async def test_a_long_wait_of_the_one_is_none_of_the_other() -> None:
    """Minutes of sound to examine are no reason to turn a continuation away."""
    gate = Gate(DETECT, skip=10)

    takes = pause(0.005)

    def before(batch: Batch) -> None:
        takes(batch)
        gate(batch)

    async with serving(FakeRunner(before=before, detector=FakeDetector())) as client:
        worker = client.worker  # type: ignore[attr-defined]
        assert (await post(client, "/detect", 4)).status_code == 200  # now it knows what a window takes
        examinations = [asyncio.create_task(post(client, "/detect", 60)) for _ in range(2)]
        await asyncio.to_thread(gate.reached.wait, 60)
        async with asyncio.timeout(60):
            while worker.open_jobs(DETECT) < 2:
                await asyncio.sleep(0.01)
        worker.max_backlog_seconds = 0.5
        assert worker.backlog_seconds > 0.5
        worker.admit(1.0).release()
        assert_problem(await post(client, "/detect", 60), 429, "overloaded")
        gate.open()
        assert [answer.status_code for answer in await asyncio.gather(*examinations)] == [200, 200]
