"""The scheduler under random traffic on a virtual clock: nothing lost, nothing twice, nobody forgotten."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from model.engine.engine import Engine
from model.engine.scheduler import Scheduler, StageLimits
from model.engine.sequence import Reason, WindowJob
from model.engine.work import Work
from tests.model.engine.fakes import CountedTask, FakeRunner, RecordingSink, VirtualClock

STAGES = {
    "encode": StageLimits(1),
    "steps": StageLimits(4, max_steps=3),
    "windows": StageLimits(2, linger_seconds=0.03),
}
SCAN = {**STAGES, "scan": StageLimits(1, max_steps=1, share=0.25)}


def make_engine(
    slots: int = 2, stages: dict[str, StageLimits] = STAGES, **options: float
) -> tuple[Engine, FakeRunner, VirtualClock]:
    clock = VirtualClock()
    runner = FakeRunner(stages, slots, clock)
    return Engine(runner, clock, **options), runner, clock  # type: ignore[arg-type]


def make_task(name: str, units: dict[str, int] | None = None, **options: object) -> CountedTask:
    return CountedTask(
        id=name, sink=RecordingSink(), units=units or {"encode": 1, "steps": 5, "windows": 2}, **options
    )  # type: ignore[arg-type]


def run_all(engine: Engine, limit: int = 5_000) -> None:
    for _ in range(limit):
        if not engine.step():
            assert not engine.has_work
            return
    raise AssertionError("the engine never came to rest")


units = st.fixed_dictionaries(
    {"encode": st.integers(0, 2), "steps": st.integers(1, 9), "windows": st.integers(0, 3)}
)
arrivals = st.lists(
    st.tuples(
        st.integers(0, 4),  # engine steps before it arrives
        units,
        st.integers(0, 2),  # priority
        st.one_of(st.none(), st.floats(0.0, 0.6)),  # deadline from arrival
        st.one_of(st.none(), st.integers(0, 12)),  # cancelled so many engine steps after arrival
    ),
    max_size=14,
)


@settings(max_examples=60, deadline=None)
@given(arrivals, st.integers(1, 5))
def test_every_task_ends_once_and_does_exactly_its_work(traffic: list[tuple], slots: int) -> None:
    engine, runner, clock = make_engine(slots)
    tasks: list[CountedTask] = []
    cancels: list[tuple[int, CountedTask]] = []
    turn = 0
    for number, (wait, work, priority, deadline, cancel_after) in enumerate(traffic):
        for _ in range(wait):
            engine.step()
            turn += 1
            for task in [task for when, task in cancels if when <= turn]:
                task.cancelled = True
        limit = float("inf") if deadline is None else clock() + deadline
        task = make_task(str(number), work, priority=priority, deadline=limit)
        tasks.append(task)
        if cancel_after is not None:
            cancels.append((turn + cancel_after, task))
        engine.submit(task)
    for _ in range(3_000):
        for task in [task for when, task in cancels if when <= turn]:
            task.cancelled = True
        turn += 1
        if not engine.step():
            break
    assert not engine.has_work
    assert sorted(engine.scheduler.free_slots) == list(range(slots))
    for task in tasks:
        assert isinstance(task.sink, RecordingSink)
        assert len(task.sink.ends) == 1 and runner.left.count(task) == 1
        done = {stage: sum(n for s, n in task.log if s == stage) for stage in task.units}
        if task.reason is Reason.DONE:
            assert done == task.units
        else:
            assert task.cancelled if task.reason is Reason.CANCELLED else task.deadline <= clock()
            assert task.reason in (Reason.CANCELLED, Reason.EXPIRED)
            assert all(done[stage] <= task.units[stage] for stage in done)
    for batch in runner.batches:
        assert len(set(map(id, batch.tasks))) == len(batch.tasks) <= STAGES[batch.stage].max_rows


@given(st.lists(st.integers(0, 2), min_size=1, max_size=10))
def test_first_come_first_served_within_a_priority(priorities: list[int]) -> None:
    engine, runner, _ = make_engine(slots=1)
    tasks = [make_task(str(i), priority=priority) for i, priority in enumerate(priorities)]
    for task in tasks:
        engine.submit(task)
    run_all(engine)
    ended = [int(task.id) for task in runner.left]
    assert ended == sorted(range(len(tasks)), key=lambda i: (priorities[i], i))


def test_the_nearer_deadline_goes_first_within_a_priority() -> None:
    engine, runner, _ = make_engine(slots=1)
    for name, deadline in (("late", 50.0), ("soon", 20.0), ("whenever", float("inf"))):
        engine.submit(make_task(name, deadline=deadline))
    run_all(engine)
    assert [task.id for task in runner.left] == ["soon", "late", "whenever"]


def test_a_low_priority_task_is_not_starved_by_a_stream_of_high_ones() -> None:
    engine, _, clock = make_engine(slots=1, aging_seconds=1.0)
    engine.submit(make_task("urgent", priority=0))
    low = make_task("low", priority=2)
    engine.submit(low)
    for number in range(2_000):
        engine.submit(make_task(f"urgent {number}", priority=0))
        engine.step()
        if low.finished:
            break
    assert low.reason is Reason.DONE and clock() < 2.0


def test_earlier_stages_run_although_later_ones_always_have_work() -> None:
    engine, runner, _ = make_engine(slots=2, patience=4)
    engine.submit(make_task("long", {"windows": 200}))
    newcomer = make_task("newcomer", {"encode": 1, "steps": 3})
    engine.submit(newcomer)
    for _ in range(12):
        engine.step()
    assert newcomer.reason is Reason.DONE
    assert sum(batch.stage == "windows" for batch in runner.batches) >= 8


def test_later_stages_go_first() -> None:
    engine, runner, _ = make_engine(slots=2)
    engine.submit(make_task("early", {"encode": 2}))
    engine.submit(make_task("late", {"steps": 6}))
    stages = [(engine.step(), runner.batches[-1].stage)[1] for _ in range(4)]
    assert stages == ["steps", "steps", "encode", "encode"]


def test_a_cancelled_or_expired_task_never_runs_again_and_its_slot_is_free_within_one_step() -> None:
    engine, runner, clock = make_engine(slots=1)
    first = make_task("first", {"steps": 90}, priority=0)
    second = make_task("second", {"steps": 90}, deadline=1.0)
    third = make_task("third", {"steps": 3})
    for task in (first, second, third):
        engine.submit(task)
    engine.step()
    assert first.slot is not None
    first.cancelled = True
    engine.step()
    assert first.reason is Reason.CANCELLED and runner.batches[-1].tasks == (second,)
    clock.advance(5.0)
    engine.step()
    assert second.reason is Reason.EXPIRED and runner.batches[-1].tasks == (third,)
    assert third.reason is Reason.DONE


def test_a_waiting_task_expires_without_ever_getting_a_slot() -> None:
    engine, _, clock = make_engine(slots=1)
    engine.submit(make_task("long", {"steps": 90}, priority=0))
    waiting = make_task("waiting", deadline=0.5)
    engine.submit(waiting)
    engine.step()
    clock.advance(1.0)
    engine.step()
    assert waiting.reason is Reason.EXPIRED and waiting.log == [] and engine.scheduler.num_waiting == 0


def test_a_lone_window_waits_a_moment_for_company_but_never_when_idle() -> None:
    engine, runner, _ = make_engine(slots=2)
    engine.submit(make_task("window", {"windows": 1}))
    engine.submit(make_task("steps", {"steps": 60}))
    stages = [(engine.step(), runner.batches[-1].stage)[1] for _ in range(5)]
    assert stages == ["steps", "steps", "steps", "windows", "steps"]  # 0.03 s of lingering, 0.01 s a batch
    engine, runner, _ = make_engine(slots=2)
    engine.submit(make_task("window", {"windows": 1}))
    engine.step()
    assert runner.batches[-1].stage == "windows"


def test_a_stage_waits_for_tasks_that_only_its_feeder_holds_back() -> None:
    stages = {"feeder": StageLimits(4), "steps": StageLimits(4, fed_by=("feeder",))}
    engine, runner, _ = make_engine(slots=4, stages=stages)
    engine.submit(make_task("first", {"steps": 3}))
    for number in range(2):
        engine.submit(make_task(str(number), {"feeder": 1, "steps": 3}))
    run_all(engine)
    assert [(batch.stage, len(batch.tasks)) for batch in runner.batches] == [("feeder", 2)] + [
        ("steps", 3)
    ] * 3


def test_a_stage_does_not_wait_for_its_feeder_for_ever() -> None:
    stages = {"feeder": StageLimits(1), "steps": StageLimits(4, fed_by=("feeder",))}
    engine, runner, _ = make_engine(slots=4, stages=stages)
    waits = make_task("waits", {"steps": 3})
    engine.submit(waits)
    engine.submit(make_task("endless", {"feeder": 10_000}))
    for _ in range(200):
        engine.step()
    assert waits.reason is Reason.DONE and runner.batches[0].stage == "feeder"


def test_jobs_with_a_share_get_it_and_no_more_while_others_wait() -> None:
    engine, runner, _ = make_engine(slots=4, stages=SCAN)
    for number in range(4):
        engine.submit(make_task(str(number), {"steps": 10_000}))
    sink = RecordingSink()
    windows = [np.full(3, i, dtype=np.float32) for i in range(500)]
    engine.submit(WindowJob(id="scan", sink=sink, stage="scan", windows=windows))
    for _ in range(400):
        engine.step()
    scans = sum(batch.stage == "scan" for batch in runner.batches)
    assert 90 <= scans <= 110  # a quarter of the time


def test_a_job_of_windows_returns_one_result_per_window_in_order() -> None:
    engine, _, _ = make_engine(stages={**STAGES, "scan": StageLimits(1, max_steps=4, share=0.2)})
    sink = RecordingSink()
    windows = [np.full(length, 1.0, dtype=np.float32) for length in (3, 3, 3, 3, 3, 5, 2)]
    engine.submit(WindowJob(id="scan", sink=sink, stage="scan", windows=windows))
    run_all(engine)
    assert sink.results == [3.0, 3.0, 3.0, 3.0, 3.0, 5.0, 2.0] and sink.ends[0][0] is Reason.DONE


def test_slots_are_never_shared() -> None:
    scheduler = Scheduler(STAGES, 3, VirtualClock())
    tasks = [make_task(str(i)) for i in range(5)]
    for task in tasks:
        scheduler.add(task)
    admitted = scheduler.admit()
    assert len(admitted) == 3 and sorted(task.slot for task in admitted) == [0, 1, 2]  # type: ignore[attr-defined]
    scheduler.remove(admitted[1])
    assert [task.slot for task in scheduler.admit()] == [1]  # type: ignore[attr-defined]


class Listened(CountedTask):
    """Nothing is heard of it before its first window is done; more steps are ready all the while."""

    def works(self) -> Iterator[Work]:
        steps, windows = self.done.get("steps", 0), self.done.get("windows", 0)
        if steps < self.units["steps"]:
            yield Work("steps", "step")
        if windows < min(self.units["windows"], steps // 2):
            yield Work("windows", "window", awaited=windows == 0)


def test_windows_that_somebody_waits_for_go_before_later_windows_and_before_steps() -> None:
    stages = {"steps": StageLimits(8), "windows": StageLimits(1)}
    engine, runner, _ = make_engine(8, stages, patience=2)
    tasks = [Listened(id=str(i), sink=RecordingSink(), units={"steps": 12, "windows": 6}) for i in range(8)]
    for task in tasks:
        engine.submit(task)
    run_all(engine)
    assert all(task.complete for task in tasks)
    at = next(i for i, batch in enumerate(runner.batches) if batch.stage == "windows")
    first = runner.batches[at : at + 8]
    assert [batch.tasks[0] for batch in first] == tasks
    assert all(batch.work.awaited for batch in first)
