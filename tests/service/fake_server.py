"""A real server process around the fake engine, forked from a process that has imported everything once."""

from __future__ import annotations

import sys
import time
from multiprocessing.connection import Connection
from typing import Any

from model.engine.work import DECODE
from service.app import create_app
from service.server import run
from service.settings import Settings
from tests.service.fakes import FakeRunner, fake_worker


def serve_fake(
    ports: Connection,
    settings: dict[str, Any],
    *,
    step_seconds: float = 0.0,
    slots: int = 4,
    fail_seed: int = -1,
    fail_after_cuts: int = 0,
    die: bool = False,
) -> None:
    """Sends its port once it listens. `fail_seed` fails after so many cuts; with `die`, it takes the engine along."""

    def before(batch: Any) -> None:
        time.sleep(step_seconds)
        for task in batch.tasks:
            if task.seed == fail_seed and batch.stage == DECODE and task.done[DECODE] >= fail_after_cuts:
                raise ConnectionError("the device is gone") if die else RuntimeError("the stage failed")

    given = Settings(**settings)
    worker = fake_worker(FakeRunner(slots=slots, before=before), max_queue_size=given.max_queue_size)
    status = run(
        create_app(given, worker),
        worker,
        host="127.0.0.1",
        port=0,
        drain_seconds=given.drain_seconds,
        log_level="info",
        announce=lambda host, port: ports.send(port),
    )
    sys.exit(status)
