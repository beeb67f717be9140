"""What the engine is doing, as numbers for metrics. Knows no metrics library."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from model.engine.counters import Distribution


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
