"""Threads that carry out windowed batches while the engine's own thread steps.

Decisions held here: only windowed stages leave the engine's thread, because what they read of a sequence is complete
and what they write nobody else writes; a helper always has more batches in front of it than it can run, or it would
wait for the engine's thread to finish one of its own. Helpers are as important as the engine's thread, which waits for
what they make: less would leave both behind where other programs compute too. Knows no scheduling: it is given batches
and gives back what came of them.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from typing import Any

import torch

from model.engine.scheduler import Batch

QUEUED = 4  # batches per helper, running and next: more come only when the engine's thread has done one


@dataclass(frozen=True)
class Outcome:
    """What came of a batch: outputs per task, or the error; and how long it ran."""

    batch: Batch
    outputs: list[Any]
    error: Exception | None
    seconds: float


class Helpers:
    """`count` threads. Everything is called on the engine's thread but `run`, which runs on theirs."""

    def __init__(self, count: int, run: Callable[[Batch], list[Any]], clock: Callable[[], float]) -> None:
        assert count > 0
        self._run, self._clock = run, clock
        self._room = QUEUED * count
        self._pool = ThreadPoolExecutor(
            count, thread_name_prefix="engine-helper", initializer=torch.set_num_threads, initargs=(1,)
        )
        self._under_way: set[Future[Outcome]] = set()

    @property
    def has_room(self) -> bool:
        return len(self._under_way) < self._room

    @property
    def busy(self) -> bool:
        return bool(self._under_way)

    def start(self, batch: Batch) -> None:
        self._under_way.add(self._pool.submit(self._carry_out, batch))

    def finished(self, *, block: bool) -> list[Outcome]:
        """Outcomes that are there, in no order; `block` waits for one if batches are under way and none is done."""
        if not self._under_way:
            return []
        done, self._under_way = wait(self._under_way, None if block else 0, return_when=FIRST_COMPLETED)
        return [future.result() for future in done]

    def close(self) -> None:
        """Wait for what runs, drop what waits, end the threads."""
        self._pool.shutdown(cancel_futures=True)
        self._under_way = set()

    def _carry_out(self, batch: Batch) -> Outcome:
        started = self._clock()
        try:
            outputs, error = self._run(batch), None
        except Exception as raised:
            outputs, error = [], raised
        return Outcome(batch, outputs, error, self._clock() - started)
