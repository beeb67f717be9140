"""One request inside the engine: what it needs, how far it is, and where its sound goes.

A `Sequence` is one continuation, a `WindowJob` is independent windows for one windowed stage (a detector's, say).
Both say what they could do next (`works`) from counts alone: every length is known before the first step, so the
engine never has to look at a token to decide. Knows no tensors and no time but the stamps it is given.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import StrEnum
from itertools import count
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from model.engine.plan import Plan
from model.engine.work import DECODE, ENCODE, STAGES, Work

Sound = npt.NDArray[np.float32]


class Reason(StrEnum):
    """Why a task ended."""

    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"
    EXPIRED = "expired"
    STOPPED = "stopped"


class Sink(Protocol):
    """Who is told of a task's end. Called on the engine thread; must not block or raise."""

    def end(self, reason: Reason, error: Exception | None, results: list[Any]) -> None: ...


class SoundSink(Sink, Protocol):
    """Who takes a continuation's sound, too."""

    def chunk(self, samples: Sound) -> None: ...


class Prompt:
    """A clip to continue, encoded once for all continuations of it. waveform [N] at 16 kHz."""

    def __init__(self, waveform: Sound) -> None:
        self.waveform = waveform
        self.tokens: Any = None  # what the runner makes of it; None until encoded

    @property
    def encoded(self) -> bool:
        return self.tokens is not None


_arrivals = count()


@dataclass(eq=False)
class Task(ABC):
    """What scheduler and engine need to know of any work. `deadline` is in seconds of the engine's clock."""

    id: str
    sink: Sink
    priority: int = 1  # smaller runs first
    deadline: float = float("inf")
    arrival: int = field(default_factory=lambda: next(_arrivals))
    submitted_at: float = 0.0
    started_at: float | None = None
    cancelled: bool = False
    reason: Reason | None = None  # set once, by Engine.finish
    stage_seconds: dict[str, float] = field(default_factory=dict)

    needs_slot = False

    @property
    def finished(self) -> bool:
        return self.reason is not None

    @abstractmethod
    def works(self) -> Iterator[Work]:
        """What could be done next, at most one piece of work per stage."""

    def owner_of(self, stage: str) -> int:
        """Whose work in `stage` this is: of one owner's, one piece at a time is under way."""
        return self.arrival

    @abstractmethod
    def advance(self, stage: str, steps: int, output: Any) -> None:
        """Record that `steps` units of `stage` are done, and what the runner returned for them."""

    @property
    @abstractmethod
    def complete(self) -> bool:
        """Nothing is left to do."""

    @abstractmethod
    def remaining(self) -> dict[str, int]:
        """Cost still to come: units times their sizes, per kind of work."""


@dataclass(eq=False, kw_only=True)
class Sequence(Task):
    """One continuation on its way through all stages."""

    sink: SoundSink
    prompt: Prompt
    plan: Plan
    seed: int
    temperature: float = 1.0  # multiplies each stage's own
    top_k: int | None = None
    top_p: float | None = None
    slot: int | None = None  # row of every stage's cache, from admission to finish
    done: dict[str, int] = field(default_factory=lambda: dict.fromkeys(STAGES, 0))

    _made: Sound | None = None  # the sound handed over last, after some of the sound before it

    needs_slot = True

    @property
    def past(self) -> Sound:
        """The last samples before the next cut [plan.past_samples], after silence where there are fewer."""
        made = self.prompt.waveform if self._made is None else self._made
        count = self.plan.past_samples
        end = made[max(0, len(made) - count) :]
        return np.pad(end, (count - len(end), 0))

    def works(self) -> Iterator[Work]:
        yield from self.plan.works(self.done, encoded=self.prompt.encoded)

    def owner_of(self, stage: str) -> int:
        """A prompt is encoded once for all continuations of it."""
        return id(self.prompt) if stage == ENCODE else self.arrival

    def advance(self, stage: str, steps: int, output: Any) -> None:
        self.done[stage] += steps
        if stage == ENCODE:
            self.prompt.tokens = output
        elif stage == DECODE:
            self._made = np.concatenate([self.past, output])
            self.sink.chunk(output)

    @property
    def complete(self) -> bool:
        return self.done[DECODE] == len(self.plan.cuts)

    @property
    def frames_done(self) -> int:
        """Frames whose sound has been handed over."""
        cuts = self.done[DECODE]
        return self.plan.cuts[cuts - 1].end if cuts else 0

    def remaining(self) -> dict[str, int]:
        return self.plan.cost(self.done, encoded=self.prompt.encoded)


@dataclass(eq=False, kw_only=True)
class WindowJob(Task):
    """Windows [n_i] for one windowed stage; the results, in order, are what its function returned for each."""

    stage: str
    windows: list[npt.NDArray[Any]]
    results: list[Any] = field(default_factory=list)

    def works(self) -> Iterator[Work]:
        at = len(self.results)
        shape = self.windows[at].shape
        steps = next(
            (i for i, window in enumerate(self.windows[at:]) if window.shape != shape), len(self.windows) - at
        )
        yield Work(self.stage, shape, steps)

    def advance(self, stage: str, steps: int, output: Any) -> None:
        assert stage == self.stage and len(output) == steps
        self.results.extend(output)

    @property
    def complete(self) -> bool:
        return len(self.results) == len(self.windows)

    def remaining(self) -> dict[str, int]:
        return {self.stage: len(self.windows) - len(self.results)}
