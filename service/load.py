"""A load generator: so many callers, or so many arrivals per second, against a running service.

Closed loop: `concurrency` callers, each sending its next request when its last has ended. Open loop: arrivals at
random (Poisson) times that do not wait for anybody, which is how overload really looks. Requests stream, so time to
first audio is measured where it matters; nothing is retried, so a refusal counts as one. Knows only HTTP.
"""

from __future__ import annotations

import asyncio
import itertools
import random
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from model.errors import AudioLMError
from service.client import AsyncClient
from service.conversation import RequestRefused

QUANTILES = {"p50": 0.5, "p95": 0.95, "p99": 0.99}


@dataclass(frozen=True)
class Call:
    """One request. Times in seconds from its start; `error` is a problem's code, or empty."""

    started: float
    first_audio: float
    duration: float
    audio_seconds: float
    error: str = ""


@dataclass(frozen=True)
class Report:
    """What a run showed. Quantiles are over the requests that succeeded."""

    name: str
    elapsed: float
    requests: int
    succeeded: int
    errors: dict[str, int]
    audio_seconds_per_second: float
    goodput: float  # requests per second that succeeded within the time that was asked for
    first_audio: dict[str, float] = field(default_factory=dict)
    duration: dict[str, float] = field(default_factory=dict)
    real_time_factor: dict[str, float] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


class Load:
    """Requests to one service. Every request has a seed of its own, counted up from `seed`; of several lengths in
    `seconds` each request takes the next."""

    def __init__(
        self,
        client: AsyncClient,
        clip: bytes,
        *,
        seconds: float | Sequence[float],
        seed: int = 0,
        objective_seconds: float = 30.0,
    ) -> None:
        self.client = client
        self.clip = clip
        self.objective_seconds = objective_seconds
        self._lengths = itertools.cycle([seconds] if isinstance(seconds, int | float) else seconds)
        self._seeds = itertools.count(seed)

    async def closed(self, concurrency: int, duration: float) -> Report:
        """`concurrency` callers for `duration` seconds; what has begun by then is finished."""
        started = time.perf_counter()
        calls: list[Call] = []

        async def caller() -> None:
            while time.perf_counter() - started < duration:
                call = await self._call()
                calls.append(call)
                if call.error:
                    await asyncio.sleep(0.1)  # a refused caller does not hammer

        await asyncio.gather(*(caller() for _ in range(concurrency)))
        return self._report(f"{concurrency} callers", calls, time.perf_counter() - started)

    async def open(self, rate: float, duration: float, rng: random.Random) -> Report:
        """Arrivals at `rate` per second for `duration` seconds; what has begun by then is finished."""
        started = time.perf_counter()
        tasks: list[asyncio.Task[Call]] = []
        arrival = rng.expovariate(rate)
        while arrival < duration:
            await asyncio.sleep(max(0.0, started + arrival - time.perf_counter()))
            tasks.append(asyncio.create_task(self._call()))
            arrival += rng.expovariate(rate)
        calls = list(await asyncio.gather(*tasks))
        return self._report(f"{rate:g} arrivals/s", calls, time.perf_counter() - started)

    async def _call(self) -> Call:
        started = time.perf_counter()
        seconds = next(self._lengths)
        first = 0.0
        error = ""
        try:
            async with self.client.stream(
                self.clip,
                seconds=seconds,
                seed=next(self._seeds),
                include_prompt=False,
                response_format="pcm",
            ) as pieces:
                async for _ in pieces:
                    first = first or time.perf_counter() - started
        except RequestRefused as refusal:
            error = f"{refusal.status} {refusal.code}"
        except AudioLMError as failure:
            error = failure.code
        duration = time.perf_counter() - started
        return Call(started, first, duration, 0.0 if error else seconds, error)

    def _report(self, name: str, calls: Sequence[Call], elapsed: float) -> Report:
        good = [call for call in calls if not call.error]
        in_time = sum(call.duration <= self.objective_seconds for call in good)
        return Report(
            name=name,
            elapsed=elapsed,
            requests=len(calls),
            succeeded=len(good),
            errors=dict(Counter(call.error for call in calls if call.error)),
            audio_seconds_per_second=sum(call.audio_seconds for call in good) / elapsed,
            goodput=in_time / elapsed,
            first_audio=quantiles([call.first_audio for call in good]),
            duration=quantiles([call.duration for call in good]),
            real_time_factor=quantiles([call.duration / call.audio_seconds for call in good]),
        )


def quantiles(values: Sequence[float]) -> dict[str, float]:
    """p50, p95 and p99 of `values` by the nearest rank; empty for none."""
    if not values:
        return {}
    ranked = sorted(values)
    return {name: ranked[min(len(ranked) - 1, int(share * len(ranked)))] for name, share in QUANTILES.items()}


def table(reports: Sequence[Report]) -> str:
    """The reports as a Markdown table; times in seconds at p50 / p95 / p99."""
    rows = [
        "| load | requests | ok | audio s/s | goodput/s | first audio | duration | real-time factor | errors |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for report in reports:
        errors = ", ".join(f"{count} x {code}" for code, count in report.errors.items()) or "none"
        rows.append(
            f"| {report.name} | {report.requests} | {report.succeeded} | {report.audio_seconds_per_second:.2f} "
            f"| {report.goodput:.2f} | {_shown(report.first_audio)} | {_shown(report.duration)} "
            f"| {_shown(report.real_time_factor)} | {errors} |"
        )
    return "\n".join(rows)


def _shown(values: dict[str, float]) -> str:
    return " / ".join(f"{value:.2f}" for value in values.values()) or "-"
