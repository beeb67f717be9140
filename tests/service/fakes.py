"""A runner with no model: sound that depends on the prompt and the seed only, at once, or late, or never.

The real worker and the real engine run around it, so contract tests meet their admission, deadlines and cancels.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

from model.config import OperatingPoint
from model.engine.engine import Engine
from model.engine.scheduler import Batch, StageLimits
from model.engine.sequence import Sequence, Sound, Task, WindowJob
from model.engine.work import DECODE, ENCODE, STAGES, Work
from model.errors import GenerationError
from model.rendering import Cut
from model.timeline import ClipEvidence, Span, aggregate, windows_of
from service.worker import Worker

RATE = 16_000
CUT_SAMPLES = 4_000  # a quarter of a second per step
DETECT = "detect"
DETECT_SHARE = 0.25  # of the engine's time


@lru_cache(maxsize=16)
def expected_sound(seed: int, num_samples: int) -> Sound:
    """What the fake continues any prompt with."""
    return (0.3 * np.random.default_rng(seed).standard_normal(num_samples)).clip(-1, 1).astype(np.float32)


class FakePlan:
    """Encode the prompt, then hand out sound cut by cut: nothing between."""

    past_samples = 0

    def __init__(self, prompt_seconds: float, samples: int) -> None:
        if samples < 1:
            raise GenerationError(f"{samples} samples")
        self.prompt_seconds = prompt_seconds
        self.samples = self.frames = samples
        stops = [*range(CUT_SAMPLES, samples, CUT_SAMPLES), samples]
        self.cuts = tuple(
            Cut(start, start, stop, stop) for start, stop in zip([0, *stops], stops, strict=False)
        )

    def cost(self, done: Mapping[str, int] | None = None, *, encoded: bool = False) -> dict[str, int]:
        return {ENCODE: 0 if encoded else 1, DECODE: len(self.cuts) - (done or {}).get(DECODE, 0)}

    def works(self, done: Mapping[str, int], *, encoded: bool) -> Iterator[Work]:
        if not encoded:
            yield Work(ENCODE, "prompt")
        elif done[DECODE] < len(self.cuts):
            yield Work(DECODE, "cut")


class FakeDetector:
    """Takes noise for the fake's own sound, which it is, and anything smoother for somebody else's."""

    class config:  # noqa: N801 - stands where the real one has an attribute
        hop_seconds = 0.5

    point = OperatingPoint("any length", 0.0, 0.9, 0.001, 0.003, 3000, 0.9)

    def windows_of(self, waveform: Sound) -> tuple[list[Sound], list[Span]]:
        return windows_of(waveform, 2.0, 0.5)

    def judge(self, windows: list[Sound]) -> list[float]:
        turns = [np.mean(np.diff(np.signbit(window)), dtype=np.float64) for window in windows]
        return [float(np.clip(2.5 * turn - 0.25, 0.01, 0.99)) for turn in turns]

    def aggregate(self, probabilities: list[float], spans: list[Span]) -> ClipEvidence:
        return aggregate(probabilities, spans, 0.5)

    def operating_point(self, seconds: float) -> OperatingPoint | None:
        return self.point if seconds >= 1.0 else None


class FakeRunner:
    """`before(batch)` runs in the engine thread before each batch: it may wait or raise."""

    sample_rate = RATE
    max_prompt_seconds = 2.0

    def __init__(
        self,
        *,
        slots: int = 4,
        before: Callable[[Batch], None] | None = None,
        detector: FakeDetector | None = None,
    ) -> None:
        self.slots = slots
        self.stages = {stage: StageLimits(slots) for stage in STAGES}
        self.detector: Any = detector
        if detector is not None:
            self.stages[DETECT] = StageLimits(1, share=DETECT_SHARE)
        self.card: dict[str, Any] = {"name": "fake", "version": "0"}
        self.before = before
        self.running: set[str] = set()
        self.steps = 0

    def plan(self, prompt_samples: int, seconds: float) -> Any:
        return FakePlan(prompt_samples / RATE, round(seconds * RATE))

    def run(self, batch: Batch) -> list[Any]:
        self.running |= {task.id for task in batch.tasks}
        if self.before is not None:
            self.before(batch)
        self.steps += 1
        return [self._output(batch, task) for task in batch.tasks]

    def _output(self, batch: Batch, task: Task) -> Any:
        stage = batch.stage
        if isinstance(task, WindowJob):
            at = len(task.results)
            return self.detector.judge(task.windows[at : at + batch.work.steps])
        assert isinstance(task, Sequence)
        if stage == ENCODE:
            return "encoded"
        cut = task.plan.cuts[task.done[DECODE]]
        return expected_sound(task.seed, task.plan.samples)[cut.start : cut.end]

    def rows_worked_on(self, batch: Batch) -> int:
        return len(batch.tasks) + 1

    def device_memory(self) -> dict[str, int]:
        return {"allocated": 2**20, "reserved": 2**21}

    def leave(self, task: Task) -> None:
        self.running.discard(task.id)

    def release_memory(self) -> None:
        pass

    def is_out_of_memory(self, error: Exception) -> bool:
        return isinstance(error, MemoryError)

    def is_fatal(self, error: Exception) -> bool:
        return isinstance(error, ConnectionError)


def fake_worker(
    runner: FakeRunner | None = None, *, clock: Callable[[], float] = time.monotonic, **kwargs: Any
) -> Worker:
    """A worker around `runner`, not started. `clock` is what the engine measures batches with."""
    runner = runner or FakeRunner()
    return Worker(lambda: Engine(runner, clock), **kwargs)


class Gate:
    """Holds batches of one stage back until opened."""

    def __init__(self, stage: str = DECODE, *, skip: int = 0) -> None:
        self.stage = stage
        self.skip = skip
        self.reached = threading.Event()
        self._open = threading.Event()

    def open(self) -> None:
        self._open.set()

    def __call__(self, batch: Batch) -> None:
        if batch.stage != self.stage:
            return
        if self.skip:
            self.skip -= 1
            return
        self.reached.set()
        assert self._open.wait(60), "the test never opened the gate"


def pause(seconds: float) -> Callable[[Batch], None]:
    """Every batch takes this long."""
    return lambda batch: time.sleep(seconds)


@dataclass(frozen=True)
class FakeMark:
    """As `model.watermark.Mark`."""

    present: bool
    p_value: float
    payload: int | None
    key_id: str | None
    segments: tuple[tuple[float, float], ...]


class FakeWatermark:
    """Takes noise for marked, second by second; changes nothing. `before` runs on the thread that looks."""

    secret = bytes(32)

    def __init__(self, before: Callable[[], None] = lambda: None) -> None:
        self.before = before

    def begin(self, payload: int) -> FakeMarker:
        return FakeMarker()

    def find(self, samples: Sound) -> Any:
        self.before()
        seconds = [samples[start : start + RATE] for start in range(0, len(samples) - RATE + 1, RATE)]
        marked = [i for i, heard in enumerate(FakeDetector().judge(seconds)) if heard > 0.9]
        if not marked:
            return FakeMark(False, 0.5, None, None, ())
        return FakeMark(True, 1e-9, 1234, "ab12cd34", ((float(marked[0]), float(marked[-1] + 1)),))


class FakeMarker:
    """Leaves sound as it is, a chunk late."""

    def __init__(self) -> None:
        self.held = np.zeros(0, np.float32)

    def push(self, chunk: Sound) -> Sound:
        self.held, final = chunk, self.held
        return final

    def finish(self) -> Sound:
        return self.held


@dataclass(frozen=True)
class FakeCredentialsState:
    """As `service.credentials.CredentialState`."""

    state: str
    detail: str
    signer: str | None = None
    generation_id: str | None = None
    segments: tuple[tuple[float, float], ...] = ()


class FakeCredentials:
    """Takes files that end with "signed by NAME" for signed by NAME; "us" is us. Signs nothing."""

    def read(self, data: bytes) -> FakeCredentialsState:
        _, mark, signer = data[-40:].partition(b"signed by ")
        if not mark:
            return FakeCredentialsState("none", "no content credentials")
        name = signer.decode()
        return FakeCredentialsState("ours" if name == "us" else "other", "valid", name)
