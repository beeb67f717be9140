"""What work costs and how much of it may run at once: measured seconds per batch, and rows that fit into memory.

`Rates` turns exact counts of work into seconds, `Pace` says how many of those pass at once; `RowBudget` halves what may
share a batch after an out-of-memory and gives it back slowly. Knows no tensors.
"""

from __future__ import annotations

from collections.abc import Mapping

SMOOTHING = 0.2  # weight of the newest batch
PACE_SECONDS = 0.5  # over which work is summed up


class Rates:
    """Seconds per unit of each kind of work at each number of rows, as measured (exponential average)."""

    def __init__(self) -> None:
        self._seconds: dict[str, dict[int, float]] = {}  # kind -> rows -> seconds for one unit of every row

    def measured(self, kind: str, rows: int, units: int, seconds: float) -> None:
        """A batch in which each of `rows` rows did `units` units took `seconds`."""
        assert rows > 0 and units > 0
        table = self._seconds.setdefault(kind, {})
        value = seconds / units
        table[rows] = value if rows not in table else table[rows] + SMOOTHING * (value - table[rows])

    def seconds_per_unit(self, kind: str, rows: int) -> float:
        """Seconds of the device for one unit of one row when `rows` run together; 0 for what never ran."""
        table = self._seconds.get(kind)
        if not table:
            return 0.0
        smaller = [n for n in table if n <= rows]
        nearest = max(smaller) if smaller else min(table)
        return table[nearest] / nearest

    def estimate(self, units: Mapping[str, int], rows: int) -> float:
        """Seconds of the device for `units` per kind of work when about `rows` requests share it."""
        return sum(n * self.seconds_per_unit(kind, rows) for kind, n in units.items())


class Pace:
    """Seconds of work that get done in a second: above 1 where helpers work beside the engine's thread."""

    def __init__(self) -> None:
        self.value = 1.0
        self._work = 0.0
        self._since: float | None = None  # the engine has had work from then on

    def did(self, seconds: float) -> None:
        """A batch took `seconds`."""
        self._work += seconds

    def look(self, now: float, *, busy: bool) -> None:
        """Take stock every PACE_SECONDS at most; `busy`: there is work."""
        if not busy or self._since is None:
            self._since, self._work = now if busy else None, 0.0
        elif now - self._since >= PACE_SECONDS:
            self.value += SMOOTHING * (max(1.0, self._work / (now - self._since)) - self.value)
            self._since, self._work = now, 0.0


class RowBudget:
    """Largest number of rows in a batch, as a fraction of what each stage allows."""

    def __init__(self, *, recover_after: int = 1_000) -> None:
        self.fraction = 1.0
        self._recover_after = recover_after
        self._successes = 0

    def rows(self, max_rows: int) -> int:
        return max(1, int(max_rows * self.fraction))

    def halve(self) -> None:
        self.fraction = max(self.fraction / 2, 1 / 1024)
        self._successes = 0

    def succeeded(self) -> None:
        """A batch fitted; after many in a row, try twice as much again."""
        self._successes += 1
        if self.fraction < 1.0 and self._successes >= self._recover_after:
            self.fraction = min(1.0, self.fraction * 2)
            self._successes = 0
