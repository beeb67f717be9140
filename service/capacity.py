"""How many callers a replica holds, and how many replicas a number of callers needs, from measured figures.

A replica is what `audiolm load --concurrency 1 2 4 8 ...`, or the serving benchmark of `make bench`, saw of it: so
many requests finished per second with so many in work. Between two measurements it is interpolated, beyond the last
it stays what it was. Requests in work share the replica evenly, the others wait in line for a slot, and a line that
is full turns callers away: what the engine does, seen from far. Arrivals are random (Poisson), each goes to the
emptier of two replicas chosen at random.
Every request is taken to be as long as those measured. More replicas than `FULL_GROUP` behave like that many under
the same load each, so no more are simulated. Knows no HTTP and no tensors.
"""

from __future__ import annotations

import random
import re
from bisect import bisect_right
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from model.errors import AudioLMError

DEFAULT_SLOTS, DEFAULT_QUEUE_SIZE = (
    16,
    64,
)  # of the service, for figures that do not say; a test compares them
FULL_GROUP = 16  # replicas
ROUNDS = 30  # a simulation is so many times longer than a replica's line: an overload has time to show
REFUSED_AT_MOST = 0.01  # part of the requests; above it a load is too much
PRECISION = 0.02  # of the rate that a search for the limit ends with


class MeasurementError(AudioLMError):
    """The figures cannot be used. Raised for what a caller gives, with the reason."""

    default_code = "bad_measurement"


@dataclass(frozen=True)
class Replica:
    """`rates[i]`: requests finished per second with `concurrencies[i]` in work; `slots` are worked on at once."""

    concurrencies: tuple[int, ...]
    rates: tuple[float, ...]
    slots: int
    max_queue_size: int
    audio_seconds: float  # of one request

    def rate(self, in_work: int) -> float:
        """Requests per second with `in_work` in work, none of them waiting."""
        at = bisect_right(self.concurrencies, in_work)
        if at == 0:
            return self.rates[0] * in_work / self.concurrencies[0]
        if at == len(self.concurrencies):
            return self.rates[-1]
        low, high = self.concurrencies[at - 1], self.concurrencies[at]
        part = (in_work - low) / (high - low)
        return self.rates[at - 1] * (1 - part) + self.rates[at] * part

    @property
    def best(self) -> int:
        """Requests in work at which most are finished per second."""
        return max(range(1, self.slots + 1), key=self.rate)

    @property
    def limit(self) -> float:
        """Requests per second that no load can exceed."""
        return self.rate(self.best)


def replica_of(measured: Any, *, slots: int | None = None, max_queue_size: int | None = None) -> Replica:
    """A replica as measured: `measured` is the JSON of `audiolm load --concurrency ... --json`, or of the serving
    benchmark, which also says with how many slots and how long a line it measured; a number given here goes first,
    and what nobody says is taken from the service's own settings.

    Raises MeasurementError when there is nothing in it to calculate with."""
    if isinstance(measured, Mapping):
        measured = measured.get("capacity", {})
        slots = slots or measured.get("slots")
        max_queue_size = measured.get("max_queue_size") if max_queue_size is None else max_queue_size
        measured = measured.get("load", ())
    return _replica(
        measured,
        DEFAULT_SLOTS if slots is None else slots,
        DEFAULT_QUEUE_SIZE if max_queue_size is None else max_queue_size,
    )


def _replica(reports: Sequence[Mapping[str, Any]], slots: int, max_queue_size: int) -> Replica:
    points: dict[int, float] = {}
    lengths = []
    for report in reports:
        match = re.fullmatch(r"(\d+) callers", str(report.get("name", "")))
        if match is None or not report.get("succeeded"):
            continue
        points[int(match[1])] = report["succeeded"] / report["elapsed"]
        lengths.append(report["audio_seconds_per_second"] / points[int(match[1])])
    if not points:
        raise MeasurementError(
            "no closed-loop load with an answer in it: measure with audiolm load --concurrency 1 4 8"
        )
    concurrencies = tuple(sorted(points))
    rates = tuple(points[number] for number in concurrencies)
    return Replica(concurrencies, rates, slots, max_queue_size, sum(lengths) / len(lengths))


@dataclass(frozen=True)
class Outcome:
    """What a simulated load showed. Quantiles are of durations in seconds, waiting included."""

    arrivals_per_second: float
    replicas: int
    refused: float  # part of the requests
    waited_mean: float
    waited_p95: float
    p50: float
    p95: float
    p99: float

    def meets(self, objective_seconds: float) -> bool:
        return self.p95 <= objective_seconds and self.refused <= REFUSED_AT_MOST


class _Line:
    """One replica in a simulation. All requests are alike and share evenly, so they end in the order they came."""

    def __init__(self, replica: Replica) -> None:
        self.replica = replica
        self.now = 0.0
        self.progress = 0.0  # part of a request that each one in work has been given since the start
        self.in_work: deque[tuple[float, float, float]] = deque()  # progress at its end, arrival, start
        self.waiting: deque[float] = deque()  # arrivals
        self.ended: list[tuple[float, float]] = []  # waited, duration

    def __len__(self) -> int:
        return len(self.in_work) + len(self.waiting)

    def advance(self, time: float) -> None:
        """Let time pass up to `time`."""
        while self.in_work:
            pace = self.replica.rate(len(self.in_work)) / len(self.in_work)
            goal, arrival, start = self.in_work[0]
            end = self.now + (goal - self.progress) / pace
            if end > time:
                self.progress += (time - self.now) * pace
                break
            self.now, self.progress = end, goal
            self.in_work.popleft()
            self.ended.append((start - arrival, end - arrival))
            if self.waiting:
                self._start(self.waiting.popleft())
        self.now = time

    def arrive(self) -> bool:
        """One more request now. False: turned away."""
        if len(self.in_work) < self.replica.slots:
            self._start(self.now)
        elif len(self.waiting) < self.replica.max_queue_size:
            self.waiting.append(self.now)
        else:
            return False
        return True

    def _start(self, arrival: float) -> None:
        self.in_work.append((self.progress + 1.0, arrival, self.now))


def simulate(
    replica: Replica,
    replicas: int,
    arrivals_per_second: float,
    rng: random.Random,
    requests: int | None = None,
) -> Outcome:
    """`requests` arrivals (default: enough) at `replicas` replicas, the first third of them to warm up, not counted."""
    group = min(replicas, FULL_GROUP)
    lines = [_Line(replica) for _ in range(group)]
    requests = requests or ROUNDS * group * (replica.slots + replica.max_queue_size)
    time, refused, warm_up = 0.0, 0, requests // 3
    for number in range(requests):
        time += rng.expovariate(arrivals_per_second * group / replicas)
        if number == warm_up:
            refused = 0
            for line in lines:
                line.advance(time)
                line.ended.clear()
        candidates = rng.sample(lines, min(2, group))
        for line in candidates:
            line.advance(time)
        refused += not min(candidates, key=len).arrive()
    for line in lines:
        line.advance(float("inf"))
    ended = [pair for line in lines for pair in line.ended]
    durations = sorted(duration for _, duration in ended)
    waited = sorted(wait for wait, _ in ended)
    return Outcome(
        arrivals_per_second,
        replicas,
        refused / (requests - warm_up),
        sum(waited) / len(waited),
        _quantile(waited, 0.95),
        *(_quantile(durations, share) for share in (0.5, 0.95, 0.99)),
    )


def most_arrivals(replica: Replica, replicas: int, objective_seconds: float, seed: int = 0) -> float:
    """Arrivals per second up to which 95 % are answered within the objective and 99 % are not refused; 0 if none."""
    low, high = 0.0, replica.limit * replicas
    while high - low > PRECISION * replica.limit * replicas:
        middle = (low + high) / 2
        if simulate(replica, replicas, middle, random.Random(seed)).meets(objective_seconds):
            low = middle
        else:
            high = middle
    return low


def replicas_for(
    replica: Replica, arrivals_per_second: float, objective_seconds: float, seed: int = 0
) -> int | None:
    """Fewest replicas that hold this load within the objective; None if not even an idle one would."""
    if 1 / replica.rate(1) > objective_seconds:
        return None
    count = max(1, int(arrivals_per_second / replica.limit))
    while not simulate(replica, count, arrivals_per_second, random.Random(seed)).meets(objective_seconds):
        count += max(1, count // 50)
    return count


def _quantile(ranked: Sequence[float], share: float) -> float:
    return ranked[min(len(ranked) - 1, int(share * len(ranked)))]
