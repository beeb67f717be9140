"""A service for the page's tests: the real app around a runner that plays music at a pace of its own.

    python -m tests.page.server --step-seconds 0.1

Says its address once it listens. It needs no weights, passes through every stage, and continues any clip with a tune
that depends on the seed; one seed fails in the middle, and one waits there until a test says go on. Then it says how
each continuation ended, so that a test can see what became of it.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from multiprocessing.synchronize import Semaphore
from pathlib import Path
from typing import Any

from model.engine.scheduler import Batch
from model.engine.sequence import Sequence, Task
from model.engine.work import COARSE, DECODE, ENCODE, FINE, SEMANTIC, Work
from model.rendering import Cut
from service.app import create_app
from service.layers import build_provenance
from service.server import run
from service.settings import Settings
from tests.page.music import FAILING_SEED, HELD_SEED, RATE, tune
from tests.service.fakes import DETECT, FakeDetector, FakeRunner, fake_worker

CUT_SAMPLES = 8_000
MIDDLE = 2  # cuts
LONGEST_HOLD_SECONDS = 120.0
Say = Callable[[str], None]


class StagedPlan:
    """Per cut one unit of each stage, one after the other."""

    past_samples = 0

    def __init__(self, prompt_seconds: float, samples: int) -> None:
        self.prompt_seconds = prompt_seconds
        self.samples = self.frames = samples
        stops = [*range(CUT_SAMPLES, samples, CUT_SAMPLES), samples]
        self.cuts = tuple(
            Cut(start, start, stop, stop) for start, stop in zip([0, *stops], stops, strict=False)
        )

    def cost(self, done: Mapping[str, int] | None = None, *, encoded: bool = False) -> dict[str, int]:
        left = {
            stage: len(self.cuts) - (done or {}).get(stage, 0) for stage in (SEMANTIC, COARSE, FINE, DECODE)
        }
        return {ENCODE: 0 if encoded else 1, **left}

    def works(self, done: Mapping[str, int], *, encoded: bool) -> Iterator[Work]:
        if not encoded:
            yield Work(ENCODE, "prompt")
            return
        before = len(self.cuts)
        for stage in (SEMANTIC, COARSE, FINE, DECODE):
            if done[stage] < before:
                yield Work(stage, "unit")
            before = done[stage]


class MusicalRunner(FakeRunner):
    """Every batch takes `step_seconds`; HELD_SEED waits in its middle for `go_on`."""

    max_prompt_seconds = 10.0

    def __init__(
        self,
        step_seconds: float,
        slots: int,
        say: Say,
        detector: FakeDetector | None,
        go_on: Semaphore | None,
    ) -> None:
        super().__init__(slots=slots, detector=detector)
        self.say = say
        self.go_on = go_on
        self.step_seconds = step_seconds
        self.card = {
            "name": "music box",
            "version": "1.0",
            "temperatures": [0.6, 0.8, 0.6],
            "training": {"data": "none: it plays random notes of a pentatonic scale"},
        }

    def plan(self, prompt_samples: int, seconds: float) -> Any:
        return StagedPlan(prompt_samples / RATE, round(seconds * RATE))

    def run(self, batch: Batch) -> list[Any]:
        if batch.stage == DETECT:
            return super().run(batch)
        time.sleep(self.step_seconds)
        return [self._played(batch.stage, task) for task in batch.tasks]

    def leave(self, task: Task) -> None:
        self.say(f"{task.reason} {task.id}")

    def _played(self, stage: str, task: Task) -> Any:
        assert isinstance(task, Sequence)
        in_the_middle = stage == DECODE and task.done[DECODE] == MIDDLE
        if task.seed == FAILING_SEED and in_the_middle:
            time.sleep(2.0)  # a browser forgets what it has not read when the connection breaks off
            raise RuntimeError("this seed fails")
        if task.seed == HELD_SEED and in_the_middle and self.go_on is not None:
            assert self.go_on.acquire(timeout=LONGEST_HOLD_SECONDS), "the test never said go on"
        if stage == ENCODE:
            return "encoded"
        if stage != DECODE:
            return None
        cut = task.plan.cuts[task.done[DECODE]]
        return tune(task.seed, task.plan.samples)[cut.start : cut.end]


def serve(
    say: Say,
    *,
    port: int = 0,
    step_seconds: float = 0.04,
    slots: int = 4,
    max_queue_size: int = 64,
    data_dir: Path | None = None,
    go_on: Semaphore | None = None,
) -> int:
    """Serve until told to end. HELD_SEED goes on each time `go_on` is released. With a `data_dir` answers are marked,
    recorded and signed as in production, and a detector listens that takes no music for its own."""
    detector = None if data_dir is None else FakeDetector()
    worker = fake_worker(
        MusicalRunner(step_seconds, slots, say, detector, go_on), max_queue_size=max_queue_size
    )
    provenance = None if data_dir is None else build_provenance(Settings(data_dir=data_dir))
    return run(
        create_app(Settings(), worker, provenance=provenance),
        worker,
        host="127.0.0.1",
        port=port,
        drain_seconds=1.0,
        body_seconds=30.0,
        log_level="warning",
        announce=lambda host, port: say(f"http://{host}:{port}/"),
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--step-seconds", type=float, default=0.04)
    parser.add_argument("--slots", type=int, default=4)
    args = parser.parse_args()
    return serve(partial(print, flush=True), port=args.port, step_seconds=args.step_seconds, slots=args.slots)


if __name__ == "__main__":
    sys.exit(main())
