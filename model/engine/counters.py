"""Numbers of an engine that only grow, for metrics.

The engine thread writes them, a scrape reads them from another thread: a number may be one batch older than its
neighbor, never torn. Knows no metrics library.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter, defaultdict
from dataclasses import dataclass, field

STEP_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)
BATCH_ROWS = (1, 2, 4, 8, 16, 32, 64, 128)


class Distribution:
    """How often values fell between `bounds`, and their sum. `counts[i]` is of values up to `bounds[i]` and above the
    bound before; the last one is of those above every bound."""

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.total = 0.0

    def add(self, value: float) -> None:
        self.counts[bisect_left(self.bounds, value)] += 1
        self.total += value

    @property
    def mean(self) -> float:
        """0 before the first value."""
        return self.total / max(1, sum(self.counts))


def _step_seconds() -> Distribution:
    return Distribution(STEP_SECONDS)


def _batch_rows() -> Distribution:
    return Distribution(BATCH_ROWS)


@dataclass
class Counters:
    """What an engine has done. Dicts are per stage, except `finished`, which is per reason."""

    step_seconds: dict[str, Distribution] = field(default_factory=lambda: defaultdict(_step_seconds))
    batch_rows: dict[str, Distribution] = field(default_factory=lambda: defaultdict(_batch_rows))
    padding: Counter[str] = field(default_factory=Counter)  # rows that the device worked on for nobody
    units: Counter[str] = field(default_factory=Counter)
    finished: Counter[str] = field(default_factory=Counter)
    samples: int = 0
    out_of_memory: int = 0
    failed_batches: int = 0
