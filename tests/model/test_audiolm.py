"""A clip and its continuation, from a tiny bundle of random weights: lengths, the prompt, the seam, seeds, fit."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch

from model.audiolm import AudioLM, Continuation, GenerationSettings
from model.bundle import load_bundle
from model.errors import AudioLMError, ConfigError, GenerationError
from tests.conftest import chord


@pytest.fixture(scope="module")
def audiolm(tiny_bundle: Path) -> AudioLM:
    return AudioLM.load(tiny_bundle)


def make(audiolm: AudioLM, seconds: float = 0.5, *, clip: float = 1.0, **settings: float) -> Continuation:
    wave = torch.from_numpy(chord(clip))
    return audiolm.continue_clip(wave, GenerationSettings(seconds=seconds, **settings))[0]  # type: ignore[arg-type]


@pytest.mark.parametrize("clip_samples", [8_000, 8_001, 20_479, 16_000 * 40])
@pytest.mark.parametrize("seconds", [1 / 16_000, 0.0123, 0.5, 1.0])
def test_clip_and_length_are_exact(audiolm: AudioLM, clip_samples: int, seconds: float) -> None:
    clip = torch.from_numpy(chord(40))[:clip_samples]
    made = audiolm.continue_clip(clip, GenerationSettings(seconds=seconds))[0]
    assert made.waveform.shape == (clip_samples + round(16_000 * seconds),)
    assert made.prompt_samples == clip_samples
    assert torch.equal(made.waveform[:clip_samples], clip)
    assert torch.isfinite(made.waveform).all()


def test_output_longer_than_every_training_window(audiolm: AudioLM) -> None:
    seconds = 2.5 * audiolm.semantic.config.max_frames / audiolm.semantic.config.frame_rate
    made = make(audiolm, seconds)
    continuation = made.waveform[made.prompt_samples :]
    assert continuation.shape == (round(16_000 * seconds),)
    for second in continuation.split(16_000):
        assert second.std() > 0
    prompt_frames = audiolm.prompt_of(made.waveform[: made.prompt_samples]).shape[0] // 320
    frames = prompt_frames + round(50 * seconds)
    assert made.codes.shape == (12, frames)
    assert made.semantic.shape == (frames // 2,)
    assert made.codes.max() < audiolm.codec.codebook_size


def test_the_prompt_ends_with_the_clip_and_a_semantic_frame(audiolm: AudioLM) -> None:
    clip = torch.from_numpy(chord(3.3))
    prompt = audiolm.prompt_of(clip)
    assert torch.equal(prompt, clip[-prompt.shape[0] :])
    assert prompt.shape[0] % audiolm.tokenizer.hop_length == 0
    assert 0 <= audiolm.info.max_prompt_seconds * 16_000 - prompt.shape[0] < audiolm.tokenizer.hop_length
    with pytest.raises(GenerationError, match="639 samples"):
        audiolm.prompt_of(clip[:639])


@pytest.mark.parametrize("seed", range(4))
def test_no_click_at_the_seam(audiolm: AudioLM, seed: int) -> None:
    made = make(audiolm, 0.2, seed=seed)
    wave = made.waveform.numpy()
    jumps = np.abs(np.diff(wave))
    assert jumps[made.prompt_samples - 1] <= np.quantile(jumps[: made.prompt_samples - 1], 0.999)


def test_a_seed_decides_everything(audiolm: AudioLM) -> None:
    one, same, other = (make(audiolm, seed=seed) for seed in (5, 5, 6))
    assert torch.equal(one.waveform, same.waveform)
    assert torch.equal(one.codes, same.codes)
    assert not torch.equal(one.codes, other.codes)


def test_continuations_made_together_equal_those_made_alone(audiolm: AudioLM) -> None:
    clip = torch.from_numpy(chord(1.0))
    together = audiolm.continue_clip(clip, GenerationSettings(seconds=0.5, seed=3), num_continuations=3)
    assert len(together) == 3
    for i, made in enumerate(together):
        alone = make(audiolm, seed=3 + i)
        assert torch.equal(made.codes, alone.codes)
        assert torch.equal(made.semantic, alone.semantic)
        assert torch.allclose(made.waveform, alone.waveform, atol=1e-5)


def test_settings_reach_every_stage(audiolm: AudioLM) -> None:
    likeliest = make(audiolm, temperature=0.0)
    for narrow in ({"top_k": 1}, {"top_p": 1e-9}):
        assert torch.equal(make(audiolm, temperature=2.0, **narrow).codes, likeliest.codes)
    wild = make(audiolm, temperature=2.0)
    new = slice(-25, None)
    assert not torch.equal(wild.semantic[new], likeliest.semantic[new])
    for level in (0, 3, 4, 11):
        assert not torch.equal(wild.codes[level, new], likeliest.codes[level, new])


@pytest.mark.parametrize(
    "wrong",
    [
        {"seconds": 0.0},
        {"seconds": -1.0},
        {"seconds": float("nan")},
        {"seconds": 4000.0},
        {"temperature": -0.1},
        {"temperature": float("inf")},
        {"top_k": 0},
        {"top_p": 0.0},
        {"top_p": 1.1},
        {"seed": -1},
    ],
)
def test_a_wrong_setting_is_named(wrong: dict[str, float]) -> None:
    with pytest.raises(GenerationError, match=next(iter(wrong))):
        GenerationSettings(**wrong)  # type: ignore[arg-type]


@pytest.mark.parametrize("count", [0, 65])
def test_the_number_of_continuations_is_bounded(audiolm: AudioLM, count: int) -> None:
    with pytest.raises(GenerationError, match=f"num_continuations is {count}"):
        audiolm.continue_clip(torch.from_numpy(chord(1.0)), GenerationSettings(), count)


def test_progress_runs_through_every_stage(audiolm: AudioLM) -> None:
    seen: dict[str, list[float]] = {}
    clip = torch.from_numpy(chord(1.0))
    made = audiolm.continue_clip(
        clip,
        GenerationSettings(seconds=1.0),
        progress=lambda stage, done: seen.setdefault(stage, []).append(done),
    )
    assert list(seen) == ["encode", "semantic", "coarse", "fine", "decode"] == list(made[0].stage_seconds)
    for stage in ("semantic", "coarse", "fine"):
        assert seen[stage] == sorted(seen[stage])
        assert (seen[stage][0], seen[stage][-1]) == (0.0, 1.0)


def test_parts_that_do_not_fit_are_refused(tiny_bundle: Path) -> None:
    bundle = load_bundle(tiny_bundle)
    config = bundle.parts["coarse"].config
    for change in (
        {"frame_rate": 75.0},
        {"conditioning_vocab": 99},
        {"vocab_size": 99},
        {"first_codebook": 1},
    ):
        bundle.parts["coarse"].config = dataclasses.replace(config, **change)  # type: ignore[arg-type]
        with pytest.raises(ConfigError, match="do not fit: coarse stage"):
            AudioLM(**bundle.parts, info=bundle.info)  # type: ignore[arg-type]


def test_temperatures_are_one_for_a_stage_or_one_for_each_coarse_codebook(tiny_bundle: Path) -> None:
    bundle = load_bundle(tiny_bundle)
    for temperatures in ((1.0, (0.7, 0.7), 0.5), ((0.9, 0.9), 0.7, 0.5), (1.0, 0.7, (0.5,) * 8)):
        info = dataclasses.replace(bundle.info, temperatures=temperatures)
        with pytest.raises(ConfigError, match="stage: temperatures"):
            AudioLM(**bundle.parts, info=info)  # type: ignore[arg-type]
    info = dataclasses.replace(bundle.info, temperatures=(1.0, (0.9, 0.8, 0.7, 0.6), 0.5))
    fitting = AudioLM(**bundle.parts, info=info)  # type: ignore[arg-type]
    assert fitting.temperatures(fitting.coarse, 0.5) == pytest.approx((0.45, 0.4, 0.35, 0.3))
    assert fitting.temperatures(fitting.fine, 2.0) == (1.0,)


def test_a_device_that_is_not_there_is_named(tiny_bundle: Path) -> None:
    with pytest.raises(AudioLMError, match="'cuda:97'"):
        AudioLM.load(tiny_bundle, device="cuda:97")
    with pytest.raises(AudioLMError, match="'abacus'"):
        AudioLM.load(tiny_bundle, device="abacus")
