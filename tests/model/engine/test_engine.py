"""One task never hurts another: failures, lack of memory, double ends and aborted tasks."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable

import pytest

from model.engine.budget import Rates, RowBudget
from model.engine.engine import Engine
from model.engine.errors import EngineFailed, EngineStopped, OutOfMemory, StageFailed
from model.engine.scheduler import Batch, StageLimits
from model.engine.sequence import Reason
from tests.model.engine.fakes import CountedTask, FakeRunner, RecordingSink, VirtualClock

STAGES = {"steps": StageLimits(8)}


def make_engine(fault: Callable[[Batch], None] | None = None, *, slots: int = 8) -> tuple[Engine, FakeRunner]:
    clock = VirtualClock()
    runner = FakeRunner(STAGES, slots, clock, fault=fault)
    return Engine(runner, clock), runner


def submit(engine: Engine, count: int, steps: int = 3) -> list[CountedTask]:
    tasks = [CountedTask(id=str(i), sink=RecordingSink(), units={"steps": steps}) for i in range(count)]
    for task in tasks:
        engine.submit(task)
    return tasks


def run_all(engine: Engine) -> None:
    while engine.step():
        pass


def end_of(task: CountedTask) -> tuple[Reason, Exception | None]:
    assert isinstance(task.sink, RecordingSink)
    (end,) = task.sink.ends
    return end


def test_only_the_task_that_raises_fails() -> None:
    def fault(batch: Batch) -> None:
        if any(task.id == "5" and task.done for task in batch.tasks):  # type: ignore[attr-defined]
            raise ValueError("this row is bad")

    engine, _ = make_engine(fault)
    tasks = submit(engine, 8)
    run_all(engine)
    reason, error = end_of(tasks[5])
    assert (
        reason is Reason.FAILED and isinstance(error, StageFailed) and isinstance(error.__cause__, ValueError)
    )
    assert tasks[5].log == [("steps", 1)]
    for task in tasks[:5] + tasks[6:]:
        assert end_of(task) == (Reason.DONE, None) and task.done == {"steps": 3}
    assert len(engine.scheduler.free_slots) == 8


def test_out_of_memory_halves_the_budget_and_nobody_fails() -> None:
    def fault(batch: Batch) -> None:
        if len(batch.tasks) > 2:
            raise MemoryError

    engine, runner = make_engine(fault)
    tasks = submit(engine, 8, steps=4)
    run_all(engine)
    assert all(end_of(task) == (Reason.DONE, None) for task in tasks)
    assert engine.budget.rows(8) <= 2 and runner.released == engine.counters.out_of_memory > 0
    assert max(len(batch.tasks) for batch in runner.batches[-4:]) <= 2  # later batches do not try again


def test_a_single_row_is_tried_once_more_and_then_fails_alone() -> None:
    def fault(batch: Batch) -> None:
        if any(task.id == "1" for task in batch.tasks):
            raise MemoryError

    engine, runner = make_engine(fault)
    tasks = submit(engine, 3)
    run_all(engine)
    reason, error = end_of(tasks[1])
    assert reason is Reason.FAILED and isinstance(error, OutOfMemory)
    assert sum(batch.tasks == (tasks[1],) for batch in runner.batches) == 2
    assert end_of(tasks[0])[0] is end_of(tasks[2])[0] is Reason.DONE


def test_memory_that_comes_back_is_used_again() -> None:
    budget = RowBudget(recover_after=3)
    budget.halve()
    budget.halve()
    assert budget.rows(8) == 2
    for _ in range(6):
        budget.succeeded()
    assert budget.rows(8) == 8


def test_a_device_that_is_lost_ends_the_engine() -> None:
    def fault(batch: Batch) -> None:
        raise ConnectionError("device lost")

    engine, _ = make_engine(fault)
    tasks = submit(engine, 2)
    with pytest.raises(EngineFailed, match="device lost"):
        engine.step()
    engine.shut_down(EngineFailed("device lost"))
    assert all(end_of(task)[0] is Reason.STOPPED for task in tasks) and not engine.has_work


def test_finish_is_idempotent() -> None:
    engine, runner = make_engine()
    (task,) = submit(engine, 1)
    engine.step()
    engine.finish(task, Reason.CANCELLED)
    engine.finish(task, Reason.DONE)
    engine.shut_down()
    assert end_of(task)[0] is Reason.CANCELLED and runner.left == [task]
    assert engine.counters.finished == {Reason.CANCELLED: 1} and len(engine.scheduler.free_slots) == 8


def test_shutting_down_ends_waiting_and_running_tasks() -> None:
    engine, _ = make_engine(slots=2)
    tasks = submit(engine, 5)
    engine.step()
    engine.shut_down()
    assert all(isinstance(end_of(task)[1], EngineStopped) for task in tasks) and not engine.has_work


def abort_many(engine: Engine, kept: list[CountedTask] | None = None, count: int = 2_000) -> int:
    """Abort `count` tasks, waiting and running; returns how many are alive afterwards. One in 20 goes to `kept`."""
    runner = engine.runner
    assert isinstance(runner, FakeRunner)
    alive: weakref.WeakSet[CountedTask] = weakref.WeakSet()
    for _ in range(0, count, 20):
        tasks = submit(engine, 20)
        engine.step()
        for task in tasks:
            alive.add(task)
            task.cancelled = True
        if kept is not None:
            kept.append(tasks[0])
        engine.step()
        runner.batches.clear()
        runner.left.clear()
    del task, tasks
    gc.collect()
    return len(alive)


def test_aborted_tasks_leave_nothing_behind() -> None:
    engine, _ = make_engine()
    assert abort_many(engine) == 0
    assert not engine.has_work and len(engine.scheduler.free_slots) == 8


def test_the_leak_test_catches_a_leak() -> None:
    engine, _ = make_engine()
    assert abort_many(engine, kept=[]) == 100


def test_rates_know_that_company_makes_a_row_cheaper() -> None:
    rates = Rates()
    rates.measured("steps", rows=1, units=1, seconds=0.004)
    rates.measured("steps", rows=8, units=2, seconds=0.016)
    assert rates.estimate({"steps": 100}, rows=1) == pytest.approx(0.4)
    assert rates.estimate({"steps": 100}, rows=12) == pytest.approx(0.1)
    assert rates.estimate({"never ran": 100}, rows=1) == 0.0
