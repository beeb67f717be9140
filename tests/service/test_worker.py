"""The bridge between the event loop and the engine thread: every ticket ends, every place is given back."""

from __future__ import annotations

import asyncio
import gc
import time
import weakref
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import numpy as np
import pytest

from model.audiolm import GenerationSettings
from model.engine.engine import Engine
from model.engine.errors import (
    Cancelled,
    DeadlineExceeded,
    Draining,
    EngineFailed,
    EngineStopped,
    NotReady,
    Overloaded,
    StageFailed,
)
from model.engine.loading import load_engine
from model.engine.scheduler import Batch
from service.places import Place
from service.tickets import Ticket
from service.worker import Worker
from tests.conftest import chord
from tests.service.fakes import FakeRunner, Gate, expected_sound, fake_worker

pytestmark = pytest.mark.anyio
CLIP = np.zeros(16_000, dtype=np.float32)


@asynccontextmanager
async def running(runner: FakeRunner, **options: float) -> AsyncIterator[Worker]:
    worker = fake_worker(runner, **options)
    worker.start()
    await worker.ready()
    try:
        yield worker
    finally:
        await worker.stop()


def submit(place: Place, seconds: float = 1.0, *, seed: int = 0, **options: float) -> list[Ticket]:
    return place.submit(CLIP, GenerationSettings(seconds=seconds, seed=seed), request_id="r", **options)  # type: ignore[arg-type]


async def reached(gate: Gate) -> None:
    assert await asyncio.to_thread(gate.reached.wait, 60)


async def test_sound_arrives_in_chunks_and_as_a_whole() -> None:
    async with running(FakeRunner()) as worker:
        with worker.admit(1.0, 2) as place:
            first, second = submit(place, seed=5)
            chunks = [chunk async for chunk in first]
            result = await second.result()
        assert len(chunks) == 4 and np.array_equal(np.concatenate(chunks), expected_sound(5, 16_000))
        assert np.array_equal(result.waveform, expected_sound(6, 16_000)) and result.seed == 6
        assert result.first_audio_seconds > 0 and "queue" in result.stage_seconds
        assert [chunk.size async for chunk in second] == [4000] * 4  # whoever comes late misses nothing
        assert worker.open_continuations == 0 and worker.gauges().finished == {"done": 2}


async def test_leaving_a_place_cancels_what_runs() -> None:
    gate = Gate(skip=1)
    runner = FakeRunner(slots=1, before=gate)
    async with running(runner) as worker:
        with worker.admit(5.0) as place:
            (ticket,) = submit(place, 5.0)
            await reached(gate)
        assert worker.open_continuations == 0  # its room is free at once, its slot after the step that runs
        gate.open()
        with pytest.raises(Cancelled):
            await ticket.result()
        steps = runner.steps
        with worker.admit(1.0) as place:
            await submit(place)[0].result()
        assert not runner.running and runner.steps == steps + 5  # no step more for the cancelled one


async def test_a_place_that_is_never_used_is_given_back() -> None:
    async with running(FakeRunner(), max_queue_size=1) as worker:
        with pytest.raises(ValueError, match="bad upload"), worker.admit(1.0):
            with pytest.raises(Overloaded):
                worker.admit(1.0)
            raise ValueError("bad upload")
        with worker.admit(1.0) as place:
            await submit(place)[0].result()


async def test_a_full_backlog_refuses_and_says_when_to_come_back() -> None:
    gate = Gate()
    runner = FakeRunner(slots=1, before=gate)
    async with running(runner, max_backlog_seconds=10.0) as worker:
        worker.engine.rates.measured(
            "decode", rows=1, units=1, seconds=2.0
        )  # a quarter of a second of sound each
        with worker.admit(1.0) as place:
            submit(place)
            assert worker.backlog_seconds == pytest.approx(8.0)
            with pytest.raises(Overloaded) as refusal:
                worker.admit(1.0)
            assert refusal.value.retry_after == pytest.approx(8.0)
            with pytest.raises(Overloaded, match="deadline"):
                worker.admit(0.25, deadline=worker.now() + 9.0)
            worker.admit(0.25, deadline=worker.now() + 11.0).release()
            gate.open()
        with worker.admit(60.0):  # nobody else is there: take it, however long
            pass


async def test_a_deadline_ends_a_waiting_request() -> None:
    gate = Gate()
    async with running(FakeRunner(slots=1, before=gate)) as worker:
        with worker.admit(1.0) as place, worker.admit(1.0) as other:
            (busy,) = submit(place)
            (late,) = submit(other, deadline=worker.now() + 0.05)
            await reached(gate)
            await asyncio.sleep(0.06)
            gate.open()
            with pytest.raises(DeadlineExceeded):
                await late.result()
            await busy.result()


async def test_a_request_that_fails_says_so_and_others_go_on() -> None:
    def fail_odd(batch: Batch) -> None:
        if any(task.seed % 2 for task in batch.tasks) and batch.stage == "decode":  # type: ignore[attr-defined]
            raise ValueError("odd")

    async with running(FakeRunner(before=fail_odd)) as worker:
        with worker.admit(1.0, 4) as place:
            tickets = submit(place, seed=0)
            ends = await asyncio.gather(*(ticket.result() for ticket in tickets), return_exceptions=True)
    assert [isinstance(end, StageFailed) for end in ends] == [False, True, False, True]


async def test_draining_finishes_what_was_accepted_and_takes_nothing_new() -> None:
    gate = Gate()
    async with running(FakeRunner(before=gate)) as worker:
        with worker.admit(1.0) as place, worker.admit(1.0) as decoding:
            (ticket,) = submit(place)
            await reached(gate)
            drained = asyncio.create_task(worker.drain(60.0))
            await asyncio.sleep(0)
            with pytest.raises(Draining):
                worker.admit(1.0)
            assert not await worker.drain(0.02)
            gate.open()
            (accepted,) = submit(decoding)  # admitted before the drain: still served
            assert (await ticket.result()).waveform.size == (await accepted.result()).waveform.size == 16_000
        assert await drained


async def test_stopping_ends_every_ticket() -> None:
    gate = Gate()
    worker = fake_worker(FakeRunner(slots=1, before=gate))
    worker.start()
    await worker.ready()
    with worker.admit(1.0, 3) as place:
        tickets = submit(place)
        await reached(gate)
        stopping = asyncio.create_task(worker.stop())
        await asyncio.sleep(0)
        gate.open()
        await stopping
        for ticket in tickets:
            with pytest.raises(EngineStopped):
                await ticket.result()
    with pytest.raises(EngineStopped):
        worker.admit(1.0)
    assert not worker.alive


async def test_an_engine_that_fails_ends_every_ticket_and_tells() -> None:
    def lose(batch: Batch) -> None:
        raise ConnectionError("device lost")

    told: list[Exception] = []
    worker = Worker(lambda: Engine(FakeRunner(before=lose), time.monotonic), on_failure=told.append)
    worker.start()
    await worker.ready()
    with worker.admit(1.0, 2) as place:
        for ticket in submit(place):
            with pytest.raises(EngineFailed, match="device lost"):
                await ticket.result()
    async with asyncio.timeout(60):  # the thread ends a moment after its last ticket
        while worker.alive or not told:
            await asyncio.sleep(0.001)
    assert worker.state == "failed" and len(told) == 1
    with pytest.raises(EngineFailed):
        worker.admit(1.0)
    await worker.stop()


async def test_an_engine_that_cannot_be_built_is_a_failure_not_a_hang() -> None:
    def build() -> Engine:
        raise ValueError("no bundle")

    worker = Worker(build)
    with pytest.raises(NotReady):
        worker.admit(1.0)
    worker.start()
    with pytest.raises(EngineFailed, match="no bundle"):
        await worker.ready()
    assert await worker.drain(1.0)
    await worker.stop()


async def test_a_stuck_step_shows_in_the_heartbeat() -> None:
    gate = Gate()
    async with running(FakeRunner(before=gate), stall_seconds=0.05) as worker:
        with worker.admit(1.0) as place:
            (ticket,) = submit(place)
            await reached(gate)
            await asyncio.sleep(0.1)
            assert not worker.alive and worker.heartbeat_age > 0.05
            gate.open()
            await ticket.result()


async def test_two_thousand_aborted_requests_leave_nothing_behind() -> None:
    async with running(FakeRunner(slots=4), max_queue_size=64) as worker:
        alive: weakref.WeakSet[object] = weakref.WeakSet()
        leaked: list[object] = []
        for number in range(2_000):
            with worker.admit(0.5) as place:
                (ticket,) = submit(place, 0.5)
                alive.add(ticket)
                alive.add(ticket.task.prompt)
                if number % 3 == 0:
                    await asyncio.sleep(0)
                if number % 400 == 0:
                    leaked.append(ticket)  # the control: what is kept is seen
        with worker.admit(0.5) as place:
            await submit(place, 0.5)[0].result()  # the engine has seen everything before it
        del place, ticket
        async with asyncio.timeout(60):  # the engine's thread lets go of the last one a moment after its end
            while len(alive) > 2 * len(leaked):
                await asyncio.sleep(0.01)
                gc.collect()
        assert len(alive) == 2 * len(leaked) == 10
        leaked.clear()
        gc.collect()
        assert len(alive) == 0 and worker.open_continuations == 0


async def test_the_real_engine_streams_what_it_answers_at_once(tiny_bundle: Path) -> None:
    worker = Worker(lambda: load_engine(tiny_bundle, slots=2, max_seconds=2.0, threads=1))
    worker.start()
    await worker.ready()
    settings = GenerationSettings(seconds=1.7, seed=11)
    with worker.admit(1.7) as place:
        (ticket,) = place.submit(chord(1.0), settings, request_id="streamed")
        chunks = [chunk async for chunk in ticket]
    with worker.admit(1.7) as place:
        (ticket,) = place.submit(chord(1.0), settings, request_id="whole")
        whole = await ticket.result()
    await worker.stop()
    assert len(chunks) > 1 and np.array_equal(np.concatenate(chunks), whole.waveform)
    assert whole.waveform.size == 27_200 and set(whole.stage_seconds) == {
        "queue",
        "encode",
        "semantic",
        "coarse",
        "fine",
        "decode",
    }
