"""What becomes of a service that is asked for more than it can do: goodput, refusals, and whether those tell the truth.

A refusal says when to come back. It is honest if most of those who come back then, once, are let in.
"""

from __future__ import annotations

import asyncio
import random
import statistics
from dataclasses import asdict, dataclass
from typing import Any

import httpx

from service.client import AsyncClient
from service.conversation import DEFAULT_TIMEOUT, retry_after
from service.load import Load, Report

GOODPUT_KEPT = 0.9  # of the peak, under twice the load that can be done
RETRIES_ADMITTED = 0.5


@dataclass(frozen=True)
class Retries:
    """Of `sent` requests at once `refused` were; `told` seconds is the median of their Retry-After; `admitted` of
    them were let in when they came back after it."""

    sent: int
    refused: int
    told: float
    admitted: int

    @property
    def honest(self) -> bool:
        return self.refused > 0 and self.admitted > RETRIES_ADMITTED * self.refused


async def overload(
    client: AsyncClient, clip: bytes, seconds: float, capacity: float, duration: float, objective: float
) -> list[Report]:
    """Random arrivals at 1 and 2 times `capacity` requests per second; late answers are no goodput."""
    load = Load(client, clip, seconds=seconds, seed=10_000, objective_seconds=objective)
    return [await load.open(times * capacity, duration, random.Random(times)) for times in (1, 2)]


async def retries(client: AsyncClient, clip: bytes, seconds: float, count: int) -> Retries:
    """`count` requests at once; who is refused comes back once, when told to."""
    limits = httpx.Limits(max_connections=None)
    async with httpx.AsyncClient(timeout=DEFAULT_TIMEOUT, limits=limits) as http:

        async def ask(seed: int) -> httpx.Response:
            parameters = {"seconds": seconds, "seed": seed}
            return await http.send(client.continue_request(clip, parameters, "audio/wav"))

        async def come_back(seed: int) -> tuple[float, bool] | None:
            wait = retry_after(await ask(seed))
            if wait is None:
                return None
            await asyncio.sleep(wait)
            return wait, (await ask(seed)).status_code == 200

        outcomes = await asyncio.gather(*(come_back(seed) for seed in range(count)))
    refused = [outcome for outcome in outcomes if outcome is not None]
    told = statistics.median(wait for wait, _ in refused) if refused else 0.0
    return Retries(count, len(refused), told, sum(admitted for _, admitted in refused))


def verdicts(peak: float, reports: list[Report], came_back: Retries) -> dict[str, Any]:
    """What the objectives say of it. Plain JSON values."""
    kept = reports[-1].goodput / peak
    refusals = sum(reports[-1].errors.values())
    others = {code: count for code, count in reports[-1].errors.items() if not code.startswith("429")}
    return {
        "peak_requests_per_second": peak,
        "goodput_kept_at_twice_the_load": kept,
        "goodput_kept": kept >= GOODPUT_KEPT,
        "refused_at_twice_the_load": refusals / max(1, reports[-1].requests),
        "other_errors": others,
        "retries": asdict(came_back),
        "retry_after_is_honest": came_back.honest,
    }
