"""What a caller holds of work in the engine: a `Ticket` for a continuation, a `WindowTicket` for a job of windows.

The engine thread calls a ticket's `chunk` and `end`; the event loop that made the ticket sees the effect. Whoever
iterates or awaits gets every chunk and then the end, exactly once each. The loop is woken once for all that has come
since it last looked, and whoever waits for the end alone is woken by nothing else.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import Any

import numpy as np

from model.engine.sequence import Reason, Sequence, Sound, Task, WindowJob


@dataclass(frozen=True)
class Progress:
    """How far a continuation is, in codec frames whose sound is out, and the stage furthest along."""

    frames_done: int
    frames_total: int


@dataclass(frozen=True)
class EngineResult:
    """A finished continuation. `waveform` [M] holds the new samples only."""

    waveform: Sound
    seed: int
    prompt_seconds: float  # how much of the prompt the model used
    stage_seconds: dict[str, float]  # wall time of the batches this request was part of, and "queue"
    arrivals: tuple[tuple[float, int], ...]  # of each chunk: seconds from submission, number of samples

    @property
    def first_audio_seconds(self) -> float:
        """From submission to the first new samples."""
        return self.arrivals[0][0]

    @property
    def seconds(self) -> float:
        """From submission to the last sample."""
        return self.arrivals[-1][0]

    def gaps(self) -> list[float]:
        """Seconds between one chunk and the next."""
        return [later - earlier for (earlier, _), (later, _) in pairwise(self.arrivals)]

    def underruns(self, sample_rate: int) -> int:
        """How often a listener who plays from the first chunk on, and waits when there is nothing, has to wait."""
        count = 0
        silent_from = self.first_audio_seconds
        for arrived, samples in self.arrivals:
            count += arrived > silent_from
            silent_from = max(arrived, silent_from) + samples / sample_rate
        return count


class _Open:
    """Shared by both tickets: the end, and waiting for a change. Made on the event loop."""

    task: Task

    def __init__(self, poke: Callable[[], None]) -> None:
        self._loop = asyncio.get_running_loop()
        self._poke = poke
        self._news: deque[Callable[[], None]] = deque()
        self._told = False  # the loop will look at the news
        self._changed = asyncio.Event()
        self._ended = asyncio.Event()
        self._reason: Reason | None = None
        self._error: Exception | None = None
        self._results: list[Any] = []

    @property
    def request_id(self) -> str:
        return self.task.id

    @property
    def done(self) -> bool:
        return self._reason is not None

    def cancel(self) -> None:
        """Ask the engine to drop this; its slot is free within one step. Idempotent, any thread."""
        if not self.task.finished:
            self.task.cancelled = True
            self._poke()

    def end(self, reason: Reason, error: Exception | None, results: list[Any]) -> None:
        """Sink: called once, on the engine thread."""
        self._tell(partial(self._on_end, reason, error, results))

    def _on_end(self, reason: Reason, error: Exception | None, results: list[Any]) -> None:
        self._reason, self._error, self._results = reason, error, results
        self._ended.set()

    def _tell(self, news: Callable[[], None]) -> None:
        self._news.append(news)
        if not self._told and not self._loop.is_closed():
            self._told = True
            self._loop.call_soon_threadsafe(self._look)

    def _look(self) -> None:
        self._told = False  # before the last look, so that what comes during it is not missed
        while self._news:
            self._news.popleft()()
        self._changed.set()
        self._changed = asyncio.Event()

    async def _wait_for_end(self) -> None:
        await self._ended.wait()
        self._raise_error()

    def _raise_error(self) -> None:
        if self._error is not None:
            raise self._error


class Ticket(_Open):
    """One continuation on its way: iterate for its sound, or await `result()`."""

    task: Sequence

    def __init__(self, poke: Callable[[], None]) -> None:
        super().__init__(poke)
        self._chunks: list[Sound] = []
        self._arrivals: list[tuple[float, int]] = []

    @property
    def seed(self) -> int:
        return self.task.seed

    @property
    def progress(self) -> Progress:
        return Progress(self.task.frames_done, self.task.plan.frames)

    @property
    def stage_seconds(self) -> dict[str, float]:
        """Wall seconds per stage so far; complete once `done`."""
        return dict(self.task.stage_seconds)

    def chunk(self, samples: Sound) -> None:
        """Sink: called on the engine thread."""
        arrived = time.monotonic() - self.task.submitted_at
        self._tell(partial(self._on_chunk, samples, arrived))

    def _on_chunk(self, samples: Sound, arrived: float) -> None:
        self._chunks.append(samples)
        self._arrivals.append((arrived, len(samples)))

    async def __aiter__(self) -> AsyncIterator[Sound]:
        """Chunks of new samples `float32 [n]`, in order. Raises what the request failed with."""
        given = 0
        while True:
            while given < len(self._chunks):
                given += 1
                yield self._chunks[given - 1]
            if self.done:
                self._raise_error()
                return
            await self._changed.wait()

    async def result(self) -> EngineResult:
        """Wait for the end. Raises what the request failed with."""
        await self._wait_for_end()
        assert self._arrivals
        return EngineResult(
            waveform=np.concatenate(self._chunks),
            seed=self.seed,
            prompt_seconds=self.task.plan.prompt_seconds,
            stage_seconds=self.stage_seconds,
            arrivals=tuple(self._arrivals),
        )


class WindowTicket(_Open):
    """A job of windows on its way."""

    task: WindowJob

    async def result(self) -> list[Any]:
        """One value per window, in order. Raises what the job failed with."""
        await self._wait_for_end()
        return self._results
