"""Clocks, and what repeated measurements of one thing are summed up as.

Decisions held here: contenders take turns, so that a slow minute of the machine hits all of them; the median is what
is compared, the extremes are what is printed beside it. The clock is the wall's. On a machine that others keep busy,
and with one thread, the processor time of this process says more: `--clock cpu`, which every table then names.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

import torch

Clock = Callable[[], float]
Key = TypeVar("Key", bound=Hashable)
CLOCKS: dict[str, Clock] = {"wall": time.perf_counter, "cpu": time.process_time}


@dataclass(frozen=True)
class Spread:
    """Least, median and 10th and 90th percentile of `count` values."""

    least: float
    median: float
    low: float
    high: float
    count: int

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        assert values
        low, high = values[0], values[0]
        if len(values) > 1:
            low, *_, high = statistics.quantiles(values, n=10, method="inclusive")
        return cls(min(values), statistics.median(values), low, high, len(values))

    @property
    def width(self) -> float:
        """From the 10th to the 90th percentile, as a part of the median."""
        return (self.high - self.low) / self.median if self.median else 0.0


def synchronize(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def seconds_of(work: Callable[[], object], clock: Clock, device: torch.device) -> float:
    """Seconds that one call of `work` takes, the device's own work included."""
    synchronize(device)
    started = clock()
    work()
    synchronize(device)
    return clock() - started


def take_turns(
    contenders: Mapping[Key, Callable[[], object]],
    repeats: int,
    clock: Clock,
    device: torch.device,
    budget_seconds: float,
) -> dict[Key, Spread]:
    """Seconds per call of each contender, warmed up by one call, then called in turn.

    Rounds end after `repeats`, or when the next would pass `budget_seconds` of wall clock; there is always one.
    """
    started = time.perf_counter()
    for work in contenders.values():
        work()
    taken: dict[Key, list[float]] = {name: [] for name in contenders}
    for rounds in range(1, repeats + 1):
        for name, work in contenders.items():
            taken[name].append(seconds_of(work, clock, device))
        spent = time.perf_counter() - started
        if spent + spent / (rounds + 1) > budget_seconds:
            break
    return {name: Spread.of(values) for name, values in taken.items()}
