"""The systems that are measured: the shipped weights, or a preset's shapes with random ones, which are as fast.

Engines are the service's own, so what is timed is what serves. Knows no clock.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch

from model.audiolm import AudioLM
from model.bundle import KINDS, PARTS, BundleInfo
from model.config import PRESETS
from model.engine.engine import Engine
from model.engine.runner import ModelRunner
from model.engine.sequence import Prompt, Reason, Sequence, Sound
from tests.conftest import chord

SHIPPED = "shipped"
SYSTEMS = (SHIPPED, *PRESETS)


def build(system: str, device: torch.device) -> AudioLM:
    """The bundle that ships for SHIPPED; random weights, always the same, in the shapes of any preset."""
    if system == SHIPPED:
        return AudioLM.load(device=device)
    shapes = PRESETS[system]
    with torch.random.fork_rng(), torch.device(device):
        torch.manual_seed(0)
        built = {kind.part: kind.build(getattr(shapes, kind.part)) for kind in KINDS if kind.part in PARTS}
    parts: dict[str, Any] = {name: part.eval().requires_grad_(False) for name, part in built.items()}
    info = BundleInfo(system, "random weights", shapes.max_prompt_seconds, shapes.temperatures)
    audiolm = AudioLM(**parts, info=info)
    audiolm.prepare()
    return audiolm


@contextmanager
def unguided(model: AudioLM) -> Iterator[AudioLM]:
    """`model` making each step once while this lasts, as peers do that are asked for the same tokens."""
    stages = model.semantic, model.coarse
    configs = [stage.config for stage in stages]
    for stage in stages:
        stage.config = replace(stage.config, guidance=0.0, music_guidance=0.0, semantic_guidance=False)
    try:
        yield model
    finally:
        for stage, config in zip(stages, configs, strict=True):
            stage.config = config


def cache_bytes(model: AudioLM, slots: int) -> int:
    """Bytes of the keys and values of an engine with `slots` slots, all positions filled."""
    stages = model.semantic, model.coarse
    return slots * sum(stage.transformer.new_cache(stage.passes).num_bytes for stage in stages)


def new_engine(model: AudioLM, slots: int, max_seconds: float) -> Engine:
    """The service's engine around a built model, cold."""
    return Engine(ModelRunner(model, slots=slots, max_seconds=max_seconds), time.monotonic)


@dataclass
class Listener:
    """Takes a continuation's sound and remembers when it came."""

    heard: list[tuple[float, int]] = field(default_factory=list)  # (time, samples)
    error: Exception | None = None

    def chunk(self, samples: Sound) -> None:
        self.heard.append((time.perf_counter(), len(samples)))

    def end(self, reason: Reason, error: Exception | None, results: list[Any]) -> None:
        self.error = error


def submit(
    engine: Engine, seconds: float, seed: int, prompt_seconds: float = 3.0, prompt: Prompt | None = None
) -> Sequence:
    """Ask for `seconds` of sound after a made-up clip, or after a prompt that another sequence has, too."""
    if prompt is None:
        prompt = Prompt(chord(min(prompt_seconds, engine.runner.max_prompt_seconds)).astype(np.float32))
    plan = engine.runner.plan(len(prompt.waveform), seconds)
    sequence = Sequence(id=f"bench-{seed}", sink=Listener(), prompt=prompt, plan=plan, seed=seed)
    engine.submit(sequence)
    return sequence


def run_to_end(engine: Engine) -> None:
    """Every step there is."""
    while engine.step():
        pass


def devices(wanted: str) -> list[torch.device]:
    """cpu, cuda, or all there are."""
    present = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]
    return [torch.device(name) for name in present if wanted in ("all", name)]
