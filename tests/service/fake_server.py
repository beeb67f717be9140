"""A real server process around the fake engine, forked from a process that has imported everything once."""

from __future__ import annotations

import sys
import time
from multiprocessing.connection import Connection
from typing import Any

from model.engine.work import DECODE, ENCODE
from service.app import create_app
from service.connection import HEAD_SECONDS
from service.layers import build_provenance
from service.server import run
from service.settings import Settings
from tests.service.fakes import FakeDetector, FakeRunner, fake_worker


def serve_fake(
    ports: Connection,
    settings: dict[str, Any],
    *,
    port: int = 0,
    head_seconds: float = HEAD_SECONDS,
    step_seconds: float = 0.0,
    slots: int = 4,
    fail_seed: int = -1,
    fail_after_cuts: int = 0,
    die: bool = False,
    leak: bool = False,
    layers: bool = False,
) -> None:
    """Sends its port once it listens. `fail_seed` fails after so many cuts; with `die`, it takes the engine along.
    With `leak`, no prompt is ever forgotten: what a test of memory has to notice. With `layers`, there is a detector,
    and watermark, ledger and content credentials are real."""
    kept: list[Any] = []

    def before(batch: Any) -> None:
        if step_seconds:  # a sleep of 0 would still hand the core to somebody else
            time.sleep(step_seconds)
        for task in batch.tasks:
            if leak and batch.stage == ENCODE:
                kept.append(task.prompt.waveform.copy())
            if batch.stage == DECODE and task.seed == fail_seed and task.done[DECODE] >= fail_after_cuts:
                raise ConnectionError("the device is gone") if die else RuntimeError("the stage failed")

    given = Settings(**settings)
    runner = FakeRunner(slots=slots, before=before, detector=FakeDetector() if layers else None)
    worker = fake_worker(
        runner,
        max_queue_size=given.max_queue_size,
        max_window_jobs=given.max_detections,
        max_backlog_seconds=given.max_backlog_seconds,
    )
    status = run(
        create_app(given, worker, provenance=build_provenance(given) if layers else None),
        worker,
        host="127.0.0.1",
        port=port,
        drain_seconds=given.drain_seconds,
        body_seconds=given.body_timeout_seconds,
        head_seconds=head_seconds,
        log_level="info",
        announce=lambda host, port: ports.send(port),
    )
    sys.exit(status)
