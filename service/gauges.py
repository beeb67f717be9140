"""What the engine is doing, as numbers for metrics. Knows no metrics library."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

from model.engine.counters import Distribution
from model.engine.engine import Engine


@dataclass(frozen=True)
class Gauges:
    """What the engine is doing, in plain numbers. Dicts are per stage (or per reason) and only grow."""

    waiting: int
    running: int
    slots: int
    slots_used: int
    backlog_seconds: float
    heartbeat_age: float  # seconds
    row_budget: float  # 1.0, less after an out-of-memory
    step_seconds: Mapping[str, Distribution]
    batch_rows: Mapping[str, Distribution]
    padding: Mapping[str, int]
    units: Mapping[str, int]
    finished: Mapping[str, int]
    audio_seconds: float
    out_of_memory: int
    failed_batches: int
    device_memory: Mapping[str, int]  # bytes by state; empty on a CPU

    @classmethod
    def of(cls, engine: Engine, *, backlog_seconds: float, heartbeat_age: float) -> Self:
        """Of `engine` now, beside what its worker knows of the time."""
        scheduler, runner, counters = engine.scheduler, engine.runner, engine.counters
        return cls(
            waiting=scheduler.num_waiting,
            running=scheduler.num_running,
            slots=runner.slots,
            slots_used=runner.slots - len(scheduler.free_slots),
            backlog_seconds=backlog_seconds,
            heartbeat_age=heartbeat_age,
            row_budget=engine.budget.fraction,
            step_seconds=dict(counters.step_seconds),
            batch_rows=dict(counters.batch_rows),
            padding=dict(counters.padding),
            units=dict(counters.units),
            finished=dict(counters.finished),
            audio_seconds=counters.samples / runner.sample_rate,
            out_of_memory=counters.out_of_memory,
            failed_batches=counters.failed_batches,
            device_memory=runner.device_memory(),
        )
