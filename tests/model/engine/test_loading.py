"""A bundle becomes an engine that has already made sound and knows what work costs."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from model.engine.engine import Engine
from model.engine.errors import EngineFailed
from model.engine.loading import load_engine, warm_up
from model.engine.scheduler import Batch
from model.engine.sequence import WindowJob
from tests.model.engine.fakes import RecordingSink


def test_a_loaded_engine_is_warm_and_describes_its_bundle(tiny_bundle: Path) -> None:
    engine = load_engine(tiny_bundle, slots=2, max_seconds=1.0, threads=1)
    cost = engine.runner.plan(16_000, 1.0).cost()
    assert 0 < engine.rates.estimate(cost, rows=2) < 60
    assert 0 < engine.rates.estimate(cost, rows=1) < 60
    assert not engine.has_work and engine.counters.samples == 0 and len(engine.scheduler.free_slots) == 2
    card = json.loads(json.dumps(engine.runner.card))
    assert card["name"] == "tiny" and card["parts"]["coarse"]["config"]["num_codebooks"] == 4


def test_a_bundle_that_makes_no_sound_does_not_become_ready(tiny_bundle: Path) -> None:
    engine = load_engine(tiny_bundle, slots=1, max_seconds=0.5)

    class Broken:
        def __getattr__(self, name: str) -> object:
            return getattr(engine.runner, name)

        def run(self, batch: Batch) -> list[object]:
            raise ValueError("broken")

    with pytest.raises(EngineFailed, match="encode failed"):
        warm_up(Engine(Broken(), engine.clock), 0.5)  # type: ignore[arg-type]


def test_further_windowed_stages_run_beside_the_model(tiny_bundle: Path) -> None:
    loud = {"loudness": (lambda windows: [float(np.abs(window).max()) for window in windows], 0.2)}
    engine = load_engine(tiny_bundle, slots=1, max_seconds=0.5, window_functions=loud)
    sink = RecordingSink()
    windows = [np.full(100, level, dtype=np.float32) for level in (0.25, 0.5)]
    engine.submit(WindowJob(id="job", sink=sink, stage="loudness", windows=windows))
    while engine.step():
        pass
    assert sink.results == [0.25, 0.5]
