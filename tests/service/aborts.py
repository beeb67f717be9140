"""Callers of a server process who leave at any moment, and what that does to its memory.

A caller who goes in the middle of the upload, while the engine works, or between two pieces of a stream must cost
nothing afterwards. Resident memory jitters by what allocators keep, so what counts is its slope over many of them.
"""

from __future__ import annotations

import random
import statistics
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from tests.service.conftest import clip
from tests.service.processes import Process

AT_ONCE = 4
BODY = clip(2.0)


@dataclass(frozen=True)
class Growth:
    """Resident memory over requests: KiB for each, the standard error of that, and MiB before and after."""

    requests: int
    slope_kib: float
    error_kib: float
    first_mib: float
    last_mib: float

    @property
    def leaks(self) -> bool:
        """Whether it grows by more than noise: four standard errors, and a quarter of the upload for each request."""
        return self.slope_kib > len(BODY) / 4 / 1024 and self.slope_kib > 4 * self.error_kib

    def __str__(self) -> str:
        return (
            f"{self.requests} aborted requests: {self.slope_kib:+.2f} ± {self.error_kib:.2f} KiB each, "
            f"{self.first_mib:.0f} to {self.last_mib:.0f} MiB"
        )


def leave(server: Process, rng: random.Random) -> None:
    """One request whose caller goes: in the upload, at once, a little later, or after the first sound."""
    when = rng.choice(["in the upload", "at once", "later", "after the first sound"])
    stream = "true" if when == "after the first sound" else rng.choice(["true", "false"])
    with server.send_headers_of(len(BODY), f"seconds=30&seed=1&stream={stream}") as connection:
        connection.sendall(BODY[: len(BODY) // 2] if when == "in the upload" else BODY)
        if when == "later":
            time.sleep(rng.uniform(0.0, 0.05))
        if when == "after the first sound":
            answer = connection.recv(1000)
            assert answer.startswith(b"HTTP/1.1 200 "), answer


def growth(server: Process, requests: int, *, warm_up: int, samples: int = 40) -> Growth:
    """Send `warm_up` requests that nobody waits for, then `requests` more while memory is read `samples` times."""
    each = max(1, requests // samples // AT_ONCE) * AT_ONCE
    rngs = [random.Random(seed) for seed in range(AT_ONCE)]

    def send(count: int) -> None:
        with ThreadPoolExecutor(AT_ONCE) as pool:
            for caller in [pool.submit(_leave_often, server, rng, count // AT_ONCE) for rng in rngs]:
                caller.result()

    def settled_mib() -> float:
        server.wait_until(lambda: server.metric("audiolm_running") + server.metric("audiolm_waiting") == 0)
        return server.resident_mib()

    send(warm_up)
    sent, held = [0], [settled_mib()]
    while sent[-1] < requests:
        send(each)
        sent.append(sent[-1] + each)
        held.append(settled_mib())
    slope, error = _line(sent, held)
    return Growth(sent[-1], slope * 1024, error * 1024, held[0], held[-1])


def _leave_often(server: Process, rng: random.Random, count: int) -> None:
    for _ in range(count):
        leave(server, rng)


def _line(xs: list[int], ys: list[float]) -> tuple[float, float]:
    """Least-squares slope and its standard error."""
    slope, intercept = statistics.linear_regression(xs, ys)
    residuals = sum((y - slope * x - intercept) ** 2 for x, y in zip(xs, ys, strict=True))
    spread = sum((x - statistics.mean(xs)) ** 2 for x in xs)
    return slope, (residuals / max(1, len(xs) - 2) / spread) ** 0.5
