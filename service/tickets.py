"""What a caller holds of work in the engine: a `Ticket` for a continuation, a `WindowTicket` for a job of windows.

The engine thread calls a ticket's `chunk` and `end`; the event loop that made the ticket sees the effect. Whoever
iterates or awaits gets every chunk and then the end, exactly once each. The loop is woken for chunks only while
somebody waits for one, once for all that come until then: an answer that is sent whole costs it a single wake.
"""

from __future__ import annotations

import asyncio
import time
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
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(news)

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
        self._chunks: list[tuple[Sound, float]] = []  # and seconds from submission; the engine appends
        self._awaited = False  # the engine thread is to tell of the next chunk
        self._changed = asyncio.Event()

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
        self._chunks.append((samples, time.monotonic() - self.task.submitted_at))
        if self._awaited:
            self._awaited = False
            self._tell(self._changed.set)

    def _on_end(self, reason: Reason, error: Exception | None, results: list[Any]) -> None:
        super()._on_end(reason, error, results)
        self._changed.set()

    async def __aiter__(self) -> AsyncIterator[Sound]:
        """Chunks of new samples `float32 [n]`, in order. Raises what the request failed with."""
        given = 0
        while True:
            while given < len(self._chunks):
                given += 1
                yield self._chunks[given - 1][0]
            if self.done:
                self._raise_error()
                return
            self._changed.clear()
            self._awaited = True
            if given == len(self._chunks):  # none came before the engine thread knew
                await self._changed.wait()

    async def result(self) -> EngineResult:
        """Wait for the end. Raises what the request failed with."""
        await self._wait_for_end()
        assert self._chunks
        return EngineResult(
            waveform=np.concatenate([samples for samples, _ in self._chunks]),
            seed=self.seed,
            prompt_seconds=self.task.plan.prompt_seconds,
            stage_seconds=self.stage_seconds,
            arrivals=tuple((arrived, len(samples)) for samples, arrived in self._chunks),
        )


class WindowTicket(_Open):
    """A job of windows on its way."""

    task: WindowJob

    async def result(self) -> list[Any]:
        """One value per window, in order. Raises what the job failed with."""
        await self._wait_for_end()
        return self._results
