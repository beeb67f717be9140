"""The pass/fail table at the end of a training run: is this part good enough for the next one?"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass(frozen=True)
class Check:
    """One line of the pass/fail table at the end: `value` must not be above (or below) `limit`."""

    name: str
    value: float
    limit: float
    above: bool = False  # True: pass when value >= limit

    @property
    def passed(self) -> bool:
        return self.value >= self.limit if self.above else self.value <= self.limit


@dataclass(frozen=True)
class Report:
    """What a training run leaves behind: is the part good enough for the next one?"""

    part: str
    steps: int
    seconds: float
    checks: tuple[Check, ...]
    measures: dict[str, float] = field(default_factory=dict)

    @property
    def passed(self) -> bool:
        return all(check.passed for check in self.checks)

    def to_dict(self) -> dict[str, Any]:
        checks = [{**asdict(check), "passed": check.passed} for check in self.checks]
        return {**asdict(self), "checks": checks, "passed": self.passed}
