"""From a bundle to a warm engine.

Decisions held here: an engine is ready only after it has made sound once, and after batches of several sizes have run,
so that its estimates are right from the first request on. Call it in the thread that will own the engine: PyTorch's
number of threads is a property of the calling thread.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from model.audiolm import AudioLM
from model.bundle import SHIPPED, Manifest, read_manifest
from model.engine.counters import Counters
from model.engine.engine import Engine
from model.engine.errors import EngineFailed
from model.engine.runner import ModelRunner, WindowFunction
from model.engine.sequence import Prompt, Reason, Sequence, Sound
from model.engine.work import COARSE

WARM_UP_SECONDS = 2.0  # long enough for several fine windows
WARM_UP_STEPS = 4  # coarse steps at every number of rows
DETECT, DETECT_SHARE = "detect", 0.25  # the detector's windows, and what of the time they are sure of


def load_engine(
    bundle: str | Path | None = None,
    *,
    device: str | torch.device = "cpu",
    slots: int = 16,
    max_seconds: float = 30.0,
    threads: int | None = None,
    window_functions: Mapping[str, tuple[WindowFunction, float]] | None = None,
) -> Engine:
    """A warm engine around the bundle at `bundle` (default: the one that ships), for requests of up to `max_seconds`.

    A bundle with a detector gives the engine a further windowed stage, DETECT. `threads`: of CPU arithmetic; one steps,
    the others are its helpers, because threads that share a small product would wait for each other most of the time.
    Raises BundleError, ConfigError, or EngineFailed if the warm-up does not make sound.
    """
    helpers = 0
    if torch.device(device).type == "cpu":
        helpers = min(slots, (threads or torch.get_num_threads()) - 1)
        torch.set_num_threads(1)
    path = Path(bundle or SHIPPED)
    card = card_of(read_manifest(path))
    model = AudioLM.load(path, device)
    functions = dict(window_functions or {})
    if model.detector is not None:
        functions[DETECT] = (model.detector.judge, DETECT_SHARE)
    runner = ModelRunner(model, slots=slots, max_seconds=max_seconds, card=card, window_functions=functions)
    engine = Engine(runner, time.monotonic, helpers=helpers)
    warm_up(engine, min(WARM_UP_SECONDS, max_seconds))
    return engine


def card_of(manifest: Manifest) -> dict[str, Any]:
    """What a bundle says of itself, as plain JSON values."""
    info = manifest.info
    parts = {
        name: {
            "kind": part.kind.name,
            "bytes": sum(file.bytes for file in part.files),
            "config": part.config.to_dict(),
        }
        for name, part in manifest.parts.items()
    }
    return {
        "name": info.name,
        "version": info.model_version,
        "temperatures": list(info.temperatures),
        "training": info.training,
        "parts": parts,
    }


def warm_up(engine: Engine, seconds: float) -> None:
    """Make `seconds` of sound once, then a few steps side by side in growing company; counters start again at 0."""
    runner = engine.runner
    rng = np.random.default_rng(0)
    samples = round(min(1.0, runner.max_prompt_seconds) * runner.sample_rate)
    clip = 0.1 * rng.standard_normal(samples, dtype=np.float32)
    alone = _sequence(engine, Prompt(clip), seconds)
    engine.submit(alone)
    while engine.step():
        pass
    if alone.reason is not Reason.DONE:
        assert isinstance(alone.sink, _WarmUpSink)
        raise EngineFailed(f"the warm-up made no sound: {alone.sink.error}") from alone.sink.error
    rows = 2
    while rows <= runner.slots:
        together = [_sequence(engine, alone.prompt, seconds) for _ in range(rows)]
        for sequence in together:
            engine.submit(sequence)
        while any(sequence.done[COARSE] < WARM_UP_STEPS and not sequence.finished for sequence in together):
            engine.step()
        for sequence in together:
            engine.finish(sequence, Reason.CANCELLED)
        rows *= 2
    engine.counters = Counters()


class _WarmUpSink:
    error: Exception | None = None

    def chunk(self, samples: Sound) -> None:
        pass

    def end(self, reason: Reason, error: Exception | None, results: list[Any]) -> None:
        self.error = error


def _sequence(engine: Engine, prompt: Prompt, seconds: float) -> Sequence:
    plan = engine.runner.plan(len(prompt.waveform), seconds)
    return Sequence(id="warm-up", sink=_WarmUpSink(), prompt=prompt, plan=plan, seed=0)
