"""The engine on CUDA: graphs on, and still every row by itself."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pytest
import torch

from model.audiolm import AudioLM, GenerationSettings
from model.engine.engine import Engine
from model.engine.runner import ModelRunner
from model.engine.sequence import Sequence
from tests.conftest import chord
from tests.model.engine.test_runner import make_sequence, run, sink_of

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]


@pytest.fixture(scope="module")
def model(tiny_bundle: Path) -> AudioLM:
    return AudioLM.load(tiny_bundle, "cuda")


def request(runner: ModelRunner, number: int) -> Sequence:
    settings = GenerationSettings(seconds=0.4 + 0.3 * number, seed=number, top_k=5 if number % 2 else None)
    return make_sequence(runner, chord(0.3 + 0.1 * number), settings)


def test_tokens_are_bit_identical_alone_and_among_fifteen_others(model: AudioLM) -> None:
    runner = ModelRunner(model, slots=16, max_seconds=6.0)
    engine = Engine(runner, time.monotonic)
    together = [request(runner, number) for number in range(16)]
    for sequence in together:
        engine.submit(sequence)
        for _ in range(sequence.seed % 4):
            engine.step()
    while engine.step():
        pass
    for number in (0, 5, 10):
        alone = request(runner, number)
        run(engine, alone)
        one, many = sink_of(alone), sink_of(together[number])
        assert torch.equal(one.semantic, many.semantic) and torch.equal(one.codes, many.codes)
        assert np.array_equal(one.sound, many.sound)


def test_a_step_through_a_graph_is_a_step(model: AudioLM) -> None:
    graphed, plain = (ModelRunner(model, slots=4, max_seconds=3.0) for _ in range(2))
    for stage in plain._stepped.values():
        stage._graphs = None
    results = []
    for runner in (graphed, plain):
        sequences = [
            make_sequence(runner, chord(1.0), GenerationSettings(seconds=2.5, seed=seed)) for seed in range(4)
        ]
        run(Engine(runner, time.monotonic), *sequences)
        results.append([sink_of(sequence) for sequence in sequences])
    # the plain step reads less of the cache, by another kernel: rounding may turn a draw once in a while
    same = [torch.equal(one.semantic[:20], other.semantic[:20]) for one, other in zip(*results, strict=True)]
    assert sum(same) >= 3
