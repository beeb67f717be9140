"""A clock that only moves when told, tasks with a made-up pipeline, and a runner that does nothing but count."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from model.engine.plan import Plan
from model.engine.scheduler import Batch, StageLimits
from model.engine.sequence import Reason, Sound, Task, WindowJob
from model.engine.work import Work


class VirtualClock:
    """Seconds that pass only by `advance`."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now

    def advance(self, seconds: float) -> None:
        self.now += seconds


@dataclass
class RecordingSink:
    """Remembers what a task sent out."""

    chunks: list[Sound] = field(default_factory=list)
    ends: list[tuple[Reason, Exception | None]] = field(default_factory=list)
    results: list[Any] = field(default_factory=list)

    def chunk(self, samples: Sound) -> None:
        self.chunks.append(samples)

    def end(self, reason: Reason, error: Exception | None, results: list[Any]) -> None:
        self.ends.append((reason, error))
        self.results = results


@dataclass(eq=False, kw_only=True)
class CountedTask(Task):
    """So many units in each of its stages, one stage after the other."""

    units: dict[str, int]
    done: dict[str, int] = field(default_factory=dict)
    slot: int | None = None
    log: list[tuple[str, int]] = field(default_factory=list)  # (stage, steps) as they were committed

    needs_slot = True

    def works(self) -> Iterator[Work]:
        for stage, total in self.units.items():
            left = total - self.done.get(stage, 0)
            if left:
                yield Work(stage, "step", left)
                return

    def advance(self, stage: str, steps: int, output: Any) -> None:
        self.done[stage] = self.done.get(stage, 0) + steps
        self.log.append((stage, steps))

    @property
    def complete(self) -> bool:
        return self.remaining() == dict.fromkeys(self.units, 0)

    def remaining(self) -> dict[str, int]:
        return {stage: total - self.done.get(stage, 0) for stage, total in self.units.items()}


class FakeRunner:
    """Takes `seconds` of virtual time per batch; `fault(batch)` may raise."""

    sample_rate = 16_000
    max_prompt_seconds = 1.0

    def __init__(
        self,
        stages: dict[str, StageLimits],
        slots: int,
        clock: VirtualClock,
        *,
        seconds: float = 0.01,
        fault: Callable[[Batch], None] | None = None,
    ) -> None:
        self.card: dict[str, Any] = {}
        self.windowed = tuple(stages)
        self.stages, self.slots, self.clock, self.seconds, self.fault = stages, slots, clock, seconds, fault
        self.batches: list[Batch] = []
        self.left: list[Task] = []
        self.released = 0

    def plan(self, prompt_samples: int, seconds: float) -> Plan:
        raise AssertionError("these tests plan their own work")

    def run(self, batch: Batch) -> list[Any]:
        self.clock.advance(self.seconds)
        self.batches.append(batch)
        if self.fault is not None:
            self.fault(batch)
        if isinstance(batch.tasks[0], WindowJob):
            return [
                [float(window.sum()) for window in self._next(task, batch.work.steps)] for task in batch.tasks
            ]
        return [None] * len(batch.tasks)

    @staticmethod
    def _next(task: Task, steps: int) -> list[Any]:
        assert isinstance(task, WindowJob)
        return task.windows[len(task.results) : len(task.results) + steps]

    def rows_worked_on(self, batch: Batch) -> int:
        return len(batch.tasks)

    def device_memory(self) -> dict[str, int]:
        return {}

    def leave(self, task: Task) -> None:
        self.left.append(task)

    def release_memory(self) -> None:
        self.released += 1

    def is_out_of_memory(self, error: Exception) -> bool:
        return isinstance(error, MemoryError)

    def is_fatal(self, error: Exception) -> bool:
        return isinstance(error, ConnectionError)
