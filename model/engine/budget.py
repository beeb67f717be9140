"""What work costs and how much of it may run at once: measured seconds per batch, and rows that fit into memory.

`Rates` turns exact counts of work into seconds; `RowBudget` halves what may share a batch after an out-of-memory and
gives it back slowly. Knows no tensors.
"""

from __future__ import annotations

from collections.abc import Mapping

SMOOTHING = 0.2  # weight of the newest batch


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
