"""A runner with no model: sound that depends on the prompt and the seed only, at once, or late, or never.

The real worker and the real engine run around it, so contract tests meet their admission, deadlines and cancels.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from functools import lru_cache
from typing import Any

import numpy as np

from model.engine.engine import Engine
from model.engine.plan import Cut
from model.engine.scheduler import Batch, StageLimits
from model.engine.sequence import Sequence, Sound, Task
from model.engine.work import DECODE, ENCODE, STAGES, Work
from model.errors import GenerationError
from service.worker import Worker

RATE = 16_000
CUT_SAMPLES = 4_000  # a quarter of a second per step


@lru_cache(maxsize=16)
def expected_sound(seed: int, num_samples: int) -> Sound:
    """What the fake continues any prompt with."""
    return (0.3 * np.random.default_rng(seed).standard_normal(num_samples)).clip(-1, 1).astype(np.float32)


class FakePlan:
    """Encode the prompt, then hand out sound cut by cut: nothing between."""

    def __init__(self, prompt_seconds: float, samples: int) -> None:
        if samples < 1:
            raise GenerationError(f"{samples} samples")
        self.prompt_seconds = prompt_seconds
        self.samples = self.frames = samples
        stops = [*range(CUT_SAMPLES, samples, CUT_SAMPLES), samples]
        self.cuts = tuple(
            Cut(start, start, stop, stop) for start, stop in zip([0, *stops], stops, strict=False)
        )

    def cost(self, done: Mapping[str, int] | None = None, *, encoded: bool = False) -> dict[str, int]:
        return {ENCODE: 0 if encoded else 1, DECODE: len(self.cuts) - (done or {}).get(DECODE, 0)}

    def works(self, done: Mapping[str, int], *, encoded: bool) -> Iterator[Work]:
        if not encoded:
            yield Work(ENCODE, "prompt")
        elif done[DECODE] < len(self.cuts):
            yield Work(DECODE, "cut")


class FakeRunner:
    """`before(batch)` runs in the engine thread before each batch: it may wait or raise."""

    sample_rate = RATE
    max_prompt_seconds = 2.0

    def __init__(self, *, slots: int = 4, before: Callable[[Batch], None] | None = None) -> None:
        self.slots = slots
        self.stages = {stage: StageLimits(slots) for stage in STAGES}
        self.card: dict[str, Any] = {"name": "fake", "version": "0"}
        self.before = before
        self.running: set[str] = set()
        self.steps = 0

    def plan(self, prompt_samples: int, seconds: float) -> Any:
        return FakePlan(prompt_samples / RATE, round(seconds * RATE))

    def run(self, batch: Batch) -> list[Any]:
        self.running |= {task.id for task in batch.tasks}
        if self.before is not None:
            self.before(batch)
        self.steps += 1
        return [self._output(batch.stage, task) for task in batch.tasks]

    @staticmethod
    def _output(stage: str, task: Task) -> Any:
        assert isinstance(task, Sequence)
        if stage == ENCODE:
            return "encoded"
        cut = task.plan.cuts[task.done[DECODE]]
        return expected_sound(task.seed, task.plan.samples)[cut.start : cut.end]

    def rows_worked_on(self, batch: Batch) -> int:
        return len(batch.tasks) + 1

    def device_memory(self) -> dict[str, int]:
        return {"allocated": 2**20, "reserved": 2**21}

    def leave(self, task: Task) -> None:
        self.running.discard(task.id)

    def release_memory(self) -> None:
        pass

    def is_out_of_memory(self, error: Exception) -> bool:
        return isinstance(error, MemoryError)

    def is_fatal(self, error: Exception) -> bool:
        return isinstance(error, ConnectionError)


def fake_worker(runner: FakeRunner | None = None, **kwargs: Any) -> Worker:
    """A worker around `runner`, not started."""
    runner = runner or FakeRunner()
    return Worker(lambda: Engine(runner, time.monotonic), **kwargs)


class Gate:
    """Holds batches of one stage back until opened."""

    def __init__(self, stage: str = DECODE, *, skip: int = 0) -> None:
        self.stage = stage
        self.skip = skip
        self.reached = threading.Event()
        self._open = threading.Event()

    def open(self) -> None:
        self._open.set()

    def __call__(self, batch: Batch) -> None:
        if batch.stage != self.stage:
            return
        if self.skip:
            self.skip -= 1
            return
        self.reached.set()
        assert self._open.wait(20), "the test never opened the gate"


def pause(seconds: float) -> Callable[[Batch], None]:
    """Every batch takes this long."""
    return lambda batch: time.sleep(seconds)
