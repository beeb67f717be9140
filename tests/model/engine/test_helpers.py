"""Helpers change who does the work and when, never what comes of it."""

from __future__ import annotations

import threading
import time

import numpy as np
import pytest
import torch

from model.audiolm import AudioLM, GenerationSettings
from model.engine.engine import Engine
from model.engine.errors import EngineFailed, StageFailed
from model.engine.helpers import QUEUED
from model.engine.runner import ModelRunner
from model.engine.scheduler import Batch, StageLimits
from model.engine.sequence import Reason, Sequence, WindowJob
from tests.conftest import chord
from tests.model.engine.fakes import CountedTask, FakeRunner, RecordingSink, VirtualClock
from tests.model.engine.test_runner import make_sequence, model, run, sink_of

__all__ = ["model"]  # a fixture
SLOTS = QUEUED + 1  # more than a helper takes at once


class WatchedRunner(FakeRunner):
    """Knows which thread ran what; windowed batches wait for `gate`."""

    def __init__(self, stages: dict[str, StageLimits], **options: object) -> None:
        super().__init__(stages, SLOTS, VirtualClock(), **options)  # type: ignore[arg-type]
        self.windowed = ("window",)
        self.gate = threading.Event()
        self.gate.set()
        self.reached = threading.Event()  # by a helper
        self.threads: list[tuple[str, threading.Thread]] = []

    def run(self, batch: Batch) -> list[object]:
        self.threads.append((batch.stage, threading.current_thread()))
        if threading.current_thread() is not threading.main_thread():
            self.reached.set()
            assert self.gate.wait(60)
        return super().run(batch)

    @property
    def helpers(self) -> set[threading.Thread]:
        return {thread for _, thread in self.threads} - {threading.main_thread()}


def make_engine(**options: object) -> tuple[Engine, WatchedRunner]:
    runner = WatchedRunner({"steps": StageLimits(4), "window": StageLimits(1)}, **options)
    return Engine(runner, time.monotonic, helpers=1), runner


def task_of(**units: int) -> CountedTask:
    return CountedTask(id="task", sink=RecordingSink(), units=units)


def end_of(task: CountedTask | WindowJob) -> tuple[Reason, Exception | None]:
    assert isinstance(task.sink, RecordingSink)
    (end,) = task.sink.ends
    return end


def test_windows_go_to_a_helper_and_steps_stay() -> None:
    engine, runner = make_engine()
    task = task_of(steps=2, window=3)
    engine.submit(task)
    while engine.step():
        pass
    assert end_of(task) == (Reason.DONE, None)
    assert {thread for stage, thread in runner.threads if stage == "steps"} == {threading.main_thread()}
    assert {thread for stage, thread in runner.threads if stage == "window"} == runner.helpers
    assert all(thread.name.startswith("engine-helper") for thread in runner.helpers)
    assert task.log == [("steps", 1)] * 2 + [("window", 1)] * 3


def test_steps_go_on_while_a_window_is_under_way() -> None:
    engine, runner = make_engine()
    runner.gate.clear()
    held, others = task_of(window=1), task_of(steps=5)
    engine.submit(held)
    engine.submit(others)
    for _ in range(5):
        assert engine.step()
    assert end_of(others)[0] is Reason.DONE and not held.finished
    runner.gate.set()
    while engine.step():
        pass
    assert end_of(held)[0] is Reason.DONE


def test_a_cancelled_task_keeps_its_slot_until_its_window_is_back() -> None:
    engine, runner = make_engine()
    runner.gate.clear()
    held, others = task_of(window=4), task_of(steps=3)
    engine.submit(held)
    engine.submit(others)
    engine.step()
    held.cancelled = True
    engine.step()
    assert not held.finished and held.slot is not None
    runner.gate.set()
    while engine.step():
        pass
    assert end_of(held)[0] is Reason.CANCELLED and held.done["window"] == 1
    assert len(engine.scheduler.free_slots) == SLOTS


def test_what_raises_in_a_helper_fails_alone() -> None:
    def fault(batch: Batch) -> None:
        if batch.stage == "window" and batch.tasks[0].id == "bad":
            raise ValueError("this window is bad")

    engine, _ = make_engine(fault=fault)
    bad, good = task_of(window=1), task_of(window=2)
    bad.id = "bad"
    for task in (bad, good):
        engine.submit(task)
    while engine.step():
        pass
    reason, error = end_of(bad)
    assert reason is Reason.FAILED and isinstance(error, StageFailed)
    assert end_of(good) == (Reason.DONE, None)


def test_a_device_lost_in_a_helper_ends_the_engine() -> None:
    def fault(batch: Batch) -> None:
        raise ConnectionError("device lost")

    engine, _ = make_engine(fault=fault)
    task = task_of(window=1)
    engine.submit(task)
    with pytest.raises(EngineFailed, match="device lost"):
        while engine.step():
            pass
    engine.shut_down()
    assert end_of(task)[0] is Reason.STOPPED and not engine.has_work


def test_shutting_down_waits_for_the_window_under_way() -> None:
    engine, runner = make_engine()
    runner.gate.clear()
    tasks = [task_of(window=2) for _ in range(QUEUED + 1)]
    for task in tasks:
        engine.submit(task)
    assert engine.step()  # as many windows for the helper as it takes, and one made here
    assert runner.reached.wait(60)
    opener = threading.Timer(0.05, runner.gate.set)
    opener.start()
    engine.shut_down()
    opener.join()
    assert [end_of(task)[0] for task in tasks] == [Reason.STOPPED] * len(tasks)
    assert len(runner.batches) == 2
    assert len(runner.helpers) == 1 and not any(thread.is_alive() for thread in runner.helpers)


def test_a_prompt_is_encoded_once_for_all_its_continuations(model: AudioLM) -> None:
    runner = ModelRunner(model, slots=4, max_seconds=2.0)
    engine = Engine(runner, time.monotonic, helpers=2)
    settings = [GenerationSettings(seconds=0.3, seed=seed) for seed in range(4)]
    sequences = [make_sequence(runner, chord(0.3), one) for one in settings]
    for sequence in sequences:
        sequence.prompt = sequences[0].prompt
    run(engine, *sequences)
    engine.shut_down()
    assert engine.counters.units["encode"] == 1
    assert all(sequence.reason is Reason.DONE for sequence in sequences)


@pytest.mark.parametrize("helpers", [1, 3])
def test_the_sound_is_the_same_to_the_bit(model: AudioLM, helpers: int) -> None:
    def requests(runner: ModelRunner) -> list[Sequence]:
        return [
            make_sequence(
                runner,
                chord(0.3 + 0.1 * n),
                GenerationSettings(seconds=0.6 + 0.2 * n, seed=n, top_k=n or None),
            )
            for n in range(6)
        ]

    sounds = []
    for count in (0, helpers):
        runner = ModelRunner(model, slots=4, max_seconds=6.0)
        engine = Engine(runner, time.monotonic, helpers=count)
        sequences = requests(runner)
        run(engine, *sequences)
        engine.shut_down()
        sounds.append([sink_of(sequence).sound for sequence in sequences])
        assert all(sequence.reason is Reason.DONE for sequence in sequences)
    assert all(np.array_equal(one, other) for one, other in zip(*sounds, strict=True))


def test_requests_aborted_at_any_depth_leave_nothing_behind(model: AudioLM) -> None:
    runner = ModelRunner(model, slots=3, max_seconds=2.0)
    engine = Engine(runner, time.monotonic, helpers=2)
    rng = np.random.default_rng(2)
    sequences = []
    for number in range(20):
        sequence = make_sequence(runner, chord(0.2), GenerationSettings(seconds=1.0, seed=number))
        sequences.append(sequence)
        engine.submit(sequence)
        for _ in range(int(rng.integers(0, 12))):
            engine.step()
        sequence.cancelled = bool(number % 3)
    while engine.step():
        pass
    assert not engine.has_work and len(engine.scheduler.free_slots) == 3
    whole = [sequence for sequence in sequences if sequence.reason is Reason.DONE]
    assert len(whole) >= 7
    (alone,) = [make_sequence(runner, chord(0.2), GenerationSettings(seconds=1.0, seed=int(whole[0].id)))]
    run(engine, alone)
    engine.shut_down()
    assert np.array_equal(sink_of(alone).sound, sink_of(whole[0]).sound)
    assert torch.equal(sink_of(alone).codes, sink_of(whole[0]).codes)
