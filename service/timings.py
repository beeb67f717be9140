"""How long each step of a request took, as its Server-Timing header, its traces and its metrics tell."""

from __future__ import annotations

import time
from collections.abc import Mapping


class Timings:
    """Seconds of each step.

    /continue: upload, read (the clip from its file), the engine's queue, encode, semantic, coarse, fine, decode, then
    write. /detect: upload, read, then side by side credentials, ledger, watermark and detect (the classifier).
    """

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._last = time.perf_counter()

    def mark(self, step: str) -> None:
        """`step` ended now."""
        now = time.perf_counter()
        self.seconds[step] = now - self._last
        self._last = now

    def stages(self, *several: Mapping[str, float]) -> None:
        """Steps that others timed; of those that ran side by side the longest time counts."""
        for stages in several:
            for stage, taken in stages.items():
                self.seconds[stage] = max(taken, self.seconds.get(stage, 0.0))
        self._last = time.perf_counter()

    def header(self) -> str:
        """Durations in milliseconds, as the Server Timing specification has it."""
        return ", ".join(f"{step};dur={taken * 1000:.1f}" for step, taken in self.seconds.items())
