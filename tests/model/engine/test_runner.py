"""The engine's stages against `model.audiolm`, which makes one request at a time: the same tokens, the same sound."""

from __future__ import annotations

import gc
import time
import weakref
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch

from model.audiolm import AudioLM, GenerationSettings
from model.bundle import KINDS, BundleInfo
from model.config import PRESETS
from model.engine.engine import Engine
from model.engine.runner import ModelRunner
from model.engine.scheduler import Batch
from model.engine.sequence import Prompt, Reason, Sequence
from model.errors import GenerationError
from model.stages import AutoregressiveStage
from tests.conftest import chord
from tests.model.engine.fakes import RecordingSink


def build(*, kernels: bool) -> AudioLM:
    """The tiny model with windows so short that a second of sound crosses several: 1.2, 1.0 and 0.8 seconds."""
    tiny = PRESETS["tiny"]
    frames = {"semantic": 30, "coarse": 50, "fine": 40}
    configs = {name: replace(getattr(tiny, name), max_frames=count) for name, count in frames.items()}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        parts = {kind.part: kind.build(configs.get(kind.part, getattr(tiny, kind.part))) for kind in KINDS}
        for part in parts.values():
            if isinstance(part, AutoregressiveStage) and part.style is not None:
                torch.nn.init.normal_(part.style.outer.weight)  # untrained it would add nothing
            if isinstance(part, AutoregressiveStage) and part.musical is not None:
                part.musical[4:12] = True  # prompts of either kind
            if isinstance(part, AutoregressiveStage) and part.struck is not None:
                part.struck[:-1:3] = True
                torch.nn.init.normal_(part.table.weight[part.none_row + 1 :])
    for name, part in parts.items():
        part.eval()
        if name in frames:
            part.prepare(kernels=kernels)
    return AudioLM(**parts, info=BundleInfo("tiny", "0", tiny.max_prompt_seconds, tiny.temperatures))


@pytest.fixture(scope="module")
def model() -> AudioLM:
    return build(kernels=True)


@pytest.fixture(scope="module")
def tensor_model() -> AudioLM:
    return build(kernels=False)


class Recorder(RecordingSink):
    """Also keeps the lane's tokens as they are when the last sound leaves."""

    sequence: Sequence
    runner: ModelRunner

    def chunk(self, samples: np.ndarray) -> None:  # type: ignore[type-arg]
        super().chunk(samples)
        slot, plan = self.sequence.slot, self.sequence.plan
        self.codes = self.runner._lanes.codes[slot, :, : plan.frames].clone()
        self.semantic = self.runner._lanes.semantic[slot, 0, : (plan.frames + 1) // 2].clone()

    @property
    def sound(self) -> np.ndarray:  # type: ignore[type-arg]
        return np.concatenate(self.chunks)


def make_sequence(
    runner: ModelRunner, clip: np.ndarray, settings: GenerationSettings, **options: object
) -> Sequence:  # type: ignore[type-arg]
    sink = Recorder()
    sequence = Sequence(
        id=f"{settings.seed}",
        sink=sink,
        prompt=Prompt(clip),
        plan=runner.plan(len(clip), settings.seconds),
        seed=settings.seed,
        temperature=settings.temperature,
        top_k=settings.top_k,
        top_p=settings.top_p,
        **options,  # type: ignore[arg-type]
    )
    sink.sequence, sink.runner = sequence, runner
    return sequence


def run(engine: Engine, *sequences: Sequence) -> None:
    for sequence in sequences:
        engine.submit(sequence)
    while engine.step():
        pass


def sink_of(sequence: Sequence) -> Recorder:
    assert isinstance(sequence.sink, Recorder)
    return sequence.sink


@pytest.mark.parametrize(("prompt_seconds", "seconds"), [(0.05, 2.3), (1.234, 0.01), (1.7, 1.1)])
def test_the_engine_makes_what_the_model_makes_in_process(
    model: AudioLM, prompt_seconds: float, seconds: float
) -> None:
    clip = chord(prompt_seconds)
    settings = GenerationSettings(seconds=seconds, seed=7, top_k=12, top_p=0.9)
    runner = ModelRunner(model, slots=2, max_seconds=6.0)
    sequence = make_sequence(runner, clip, settings)
    run(Engine(runner, time.monotonic), sequence)
    sink = sink_of(sequence)
    assert sink.ends == [(Reason.DONE, None)]
    (expected,) = model.continue_clip(torch.from_numpy(clip), settings)
    assert torch.equal(sink.semantic, expected.semantic)
    assert torch.equal(sink.codes, expected.codes)
    new = expected.waveform[expected.prompt_samples :].numpy()
    assert sink.sound.shape == new.shape == (settings.num_samples,)
    np.testing.assert_allclose(sink.sound, new, atol=2e-5)


@pytest.mark.parametrize("kind", ["model", "tensor_model"])
def test_tokens_are_bit_identical_alone_and_among_fifteen_others(
    kind: str, request: pytest.FixtureRequest
) -> None:
    model: AudioLM = request.getfixturevalue(kind)
    rng = np.random.default_rng(5)
    runner = ModelRunner(model, slots=16, max_seconds=6.0)
    engine = Engine(runner, time.monotonic)

    def numbered(number: int) -> Sequence:
        clip = chord(0.2 + 0.09 * number)
        narrow = {1: {"top_k": 5}, 2: {"top_p": 0.8}, 3: {"temperature": 0.0}}.get(number % 5, {})
        settings = GenerationSettings(seconds=0.1 + 0.05 * number, seed=number, **narrow)  # type: ignore[arg-type]
        return make_sequence(runner, clip, settings)

    together = [numbered(number) for number in range(16)]
    for sequence in together:
        engine.submit(sequence)
        for _ in range(int(rng.integers(0, 6))):
            engine.step()
    while engine.step():
        pass
    assert max(engine.counters.batch_rows[stage].mean for stage in ("semantic", "coarse")) > 4
    for number in (0, 3, 6, 12):
        alone = numbered(number)
        run(engine, alone)
        one, many = sink_of(alone), sink_of(together[number])
        assert torch.equal(one.semantic, many.semantic) and torch.equal(one.codes, many.codes)
        assert np.array_equal(one.sound, many.sound)


def test_sound_leaves_before_later_seconds_are_begun_and_its_work_does_not_depend_on_their_number(
    model: AudioLM,
) -> None:
    steps = {}
    for seconds in (1.0, 5.0):
        runner = ModelRunner(model, slots=1, max_seconds=6.0)
        engine = Engine(runner, time.monotonic)
        sequence = make_sequence(runner, chord(1.0), GenerationSettings(seconds=seconds))
        engine.submit(sequence)
        while not sink_of(sequence).chunks:
            engine.step()
        steps[seconds] = dict(sequence.done)
        assert sequence.done["semantic"] < 25  # a second
    assert steps[1.0] == steps[5.0]


def test_a_lane_is_clean_for_its_next_sequence(model: AudioLM) -> None:
    runner = ModelRunner(model, slots=1, max_seconds=6.0)
    engine = Engine(runner, time.monotonic)
    short = GenerationSettings(seconds=0.5, seed=3)
    first = make_sequence(runner, chord(0.5), short)
    run(engine, first, make_sequence(runner, chord(1.4), GenerationSettings(seconds=1.0, seed=4)))
    again = make_sequence(runner, chord(0.5), short)
    run(engine, again)
    assert torch.equal(sink_of(first).codes, sink_of(again).codes)


class FaultyRunner(ModelRunner):
    """Raises in one stage for one request, after the stage has written what it would write; not in prefills."""

    def arm(self, stage: str, name: str, error: Exception, times: int = 1_000_000) -> None:
        self.armed = (stage, name, error)
        self.times = times

    def run(self, batch: Batch) -> list[object]:
        outputs = super().run(batch)
        stage, name, error = self.armed
        names = [task.id for task in batch.tasks]
        if batch.stage == stage and not batch.work.opens and self.times and name in names:
            self.times -= 1
            raise error
        return outputs


@pytest.mark.parametrize("stage", ["encode", "semantic", "coarse", "fine", "decode"])
def test_a_request_that_raises_inside_a_stage_fails_alone(model: AudioLM, stage: str) -> None:
    runner = FaultyRunner(model, slots=4, max_seconds=2.0)
    runner.arm(stage, "2", ValueError("bad row"))
    sequences = [
        make_sequence(runner, chord(0.4), GenerationSettings(seconds=0.12, seed=n)) for n in range(4)
    ]
    run(Engine(runner, time.monotonic), *sequences)
    assert [sequence.reason for sequence in sequences] == [
        Reason.DONE,
        Reason.DONE,
        Reason.FAILED,
        Reason.DONE,
    ]
    healthy = ModelRunner(model, slots=4, max_seconds=2.0)
    alone = make_sequence(healthy, chord(0.4), GenerationSettings(seconds=0.12, seed=3))
    run(Engine(healthy, time.monotonic), alone)
    assert np.array_equal(sink_of(alone).sound, sink_of(sequences[3]).sound)


def test_lack_of_memory_changes_no_tokens(model: AudioLM) -> None:
    runner = FaultyRunner(model, slots=4, max_seconds=2.0)
    runner.arm("coarse", "1", torch.OutOfMemoryError("injected"), times=3)
    engine = Engine(runner, time.monotonic)
    sequences = [
        make_sequence(runner, chord(0.4), GenerationSettings(seconds=0.12, seed=n)) for n in range(4)
    ]
    run(engine, *sequences)
    assert all(sequence.reason is Reason.DONE for sequence in sequences)
    assert engine.counters.out_of_memory == 3
    (expected,) = model.continue_clip(torch.from_numpy(chord(0.4)), GenerationSettings(seconds=0.12, seed=1))
    assert torch.equal(sink_of(sequences[1]).codes, expected.codes)


def test_an_aborted_request_frees_its_slot_and_rows_within_one_step(model: AudioLM) -> None:
    runner = ModelRunner(model, slots=2, max_seconds=6.0)
    engine = Engine(runner, time.monotonic)
    sequences = [make_sequence(runner, chord(0.4), GenerationSettings(seconds=1.0, seed=n)) for n in range(3)]
    for sequence in sequences:
        engine.submit(sequence)
    for _ in range(20):
        engine.step()
    assert sequences[0].slot is not None and sequences[2].slot is None
    sequences[0].cancelled = True
    engine.step()
    assert sequences[0].reason is Reason.CANCELLED and sequences[2].slot is not None
    assert all(sequences[0] not in stage.rows for stage in runner._stepped.values())
    done = dict(sequences[0].done)
    while engine.step():
        pass
    assert sequences[0].done == done and sequences[2].reason is Reason.DONE


def test_requests_aborted_at_any_depth_leave_no_row_no_slot_and_no_tokens(model: AudioLM) -> None:
    runner = ModelRunner(model, slots=3, max_seconds=2.0)
    engine = Engine(runner, time.monotonic)
    rng = np.random.default_rng(2)
    alive: weakref.WeakSet[Prompt] = weakref.WeakSet()
    for number in range(30):
        sequence = make_sequence(runner, chord(0.2), GenerationSettings(seconds=1.0, seed=number))
        alive.add(sequence.prompt)
        engine.submit(sequence)
        for _ in range(int(rng.integers(0, 12))):
            engine.step()
        sequence.cancelled = bool(number % 3)
    for task in engine.scheduler.tasks():
        task.cancelled = True
    engine.step()
    del sequence, task
    gc.collect()
    assert not engine.has_work and len(engine.scheduler.free_slots) == 3
    assert all(stage.rows == [] for stage in runner._stepped.values()) and len(alive) == 0


def test_lengths_that_do_not_fit_are_refused(model: AudioLM) -> None:
    runner = ModelRunner(model, slots=1, max_seconds=2.0)
    with pytest.raises(GenerationError, match="3"):
        runner.plan(16_000, 3.0)
    with pytest.raises(GenerationError, match="100"):
        runner.plan(100, 1.0)


def test_the_plan_ends_exactly_at_its_cost(model: AudioLM) -> None:
    runner = ModelRunner(model, slots=1, max_seconds=6.0)
    sequence = make_sequence(runner, chord(1.4), GenerationSettings(seconds=1.3))
    engine = Engine(runner, time.monotonic)
    engine.submit(sequence)
    costs = [sum(sequence.remaining().values())]
    while engine.step():
        costs.append(sum(sequence.remaining().values()))
    assert costs[-1] == 0 and all(later < earlier for earlier, later in pairwise(costs))
