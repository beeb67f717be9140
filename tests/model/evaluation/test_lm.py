"""Perplexities: the stages' losses are those of their own predictions, and baselines count what they say."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch

from model.audiolm import AudioLM
from model.evaluation.lm import (
    ClipTokens,
    TokenCounts,
    autoregressive_losses,
    evaluate_stages,
    fine_losses,
    likelihood,
    spans,
    spot_the_word,
    tokenize,
)
from tests.model.evaluation.signals import speech_like


@pytest.fixture(scope="module")
def audiolm(tiny_bundle: Path) -> AudioLM:
    return AudioLM.load(tiny_bundle)


def test_unigram_and_previous_token_on_a_known_source() -> None:
    rng = np.random.default_rng(0)
    even = rng.integers(0, 4, 4000)
    ladder = np.arange(4000) % 4
    assert math.exp(TokenCounts([even], 4).unigram_losses(even).mean()) == pytest.approx(4.0, rel=0.01)
    assert math.exp(TokenCounts([even], 4).previous_losses(even).mean()) == pytest.approx(4.0, rel=0.01)
    assert math.exp(TokenCounts([ladder], 4).previous_losses(ladder).mean()) == pytest.approx(1.0, rel=0.02)
    assert math.exp(TokenCounts([ladder], 4).unigram_losses(ladder).mean()) == pytest.approx(4.0, rel=0.01)


def test_baselines_never_call_a_token_impossible() -> None:
    counts = TokenCounts([np.zeros(10, np.int64)], 4)
    unseen = np.array([3, 2, 1, 0])
    assert np.isfinite(counts.unigram_losses(unseen)).all()
    assert np.isfinite(counts.previous_losses(unseen)).all()


def test_baselines_are_probabilities() -> None:
    counts = TokenCounts([np.array([0, 1, 1, 2, 0, 1])], 4)
    given_one = [math.exp(-counts.previous_losses(np.array([1, nxt]))[1]) for nxt in range(4)]
    assert sum(given_one) == pytest.approx(1.0)


@torch.inference_mode()
def test_losses_see_the_past_but_not_the_future(audiolm: AudioLM) -> None:
    rng = torch.Generator().manual_seed(0)
    codes = torch.randint(32, (4, 40), generator=rng)
    semantic = torch.randint(16, (20,), generator=rng)
    before = autoregressive_losses(audiolm.coarse, codes, semantic)
    changed = codes.clone()
    changed[:, 30] = (changed[:, 30] + 1) % 32
    after = autoregressive_losses(audiolm.coarse, changed, semantic)
    np.testing.assert_allclose(before[:, :27], after[:, :27], atol=1e-5)
    assert np.abs(before[:, 31:] - after[:, 31:]).max() > 1e-4
    assert before.shape == (4, 40)


@torch.inference_mode()
def test_fine_losses_are_of_the_frames_that_are_not_given(audiolm: AudioLM) -> None:
    codes = torch.randint(32, (12, 40), generator=torch.Generator().manual_seed(0))
    assert fine_losses(audiolm.fine, codes).shape == (8, 20)


def test_a_random_model_is_about_as_good_as_guessing(audiolm: AudioLM) -> None:
    rng = torch.Generator().manual_seed(0)
    clips = [
        ClipTokens(torch.randint(16, (50,), generator=rng), torch.randint(32, (12, 100), generator=rng))
        for _ in range(4)
    ]
    found = evaluate_stages(audiolm, clips[:2], clips[2:])
    assert found["semantic"]["perplexity"] == pytest.approx(16, rel=0.3)
    assert found["coarse"]["perplexity"] == pytest.approx(32, rel=0.3)
    assert found["fine"]["perplexity"] == pytest.approx(32, rel=0.3)
    assert found["semantic"]["tokens"] == 100
    assert found["coarse"]["tokens"] == 2 * 4 * 100
    assert [row["level"] for row in found["fine"]["levels"]] == list(range(5, 13))


def test_tokens_are_aligned(audiolm: AudioLM) -> None:
    tokens = tokenize(audiolm, [speech_like(0)[:30_000]])[0]  # 46.9 semantic frames, 93.75 codec frames
    assert tokens.codes.shape[1] == 2 * len(tokens.semantic)


def test_likelihood_is_per_token(audiolm: AudioLM) -> None:
    short, long = likelihood(audiolm, speech_like(0)[:8000]), likelihood(audiolm, speech_like(0))
    assert -6.0 < short < 0.0
    assert -6.0 < long < 0.0


def test_words_are_counted_in_all_and_by_voice(audiolm: AudioLM) -> None:
    one, other = speech_like(0)[:8000], speech_like(1)[:8000]
    likelier, less = sorted((one, other), key=lambda clip: -likelihood(audiolm, clip))
    won, lost, tied = ("a", likelier, less), ("a", less, likelier), ("a", one, one)
    found = spot_the_word(audiolm, [won, lost, tied, tied, ("b", likelier, less)])
    assert found["accuracy"]["count"] == 5 and found["accuracy"]["mean"] == 0.6  # a tie counts half
    assert {voice: each["count"] for voice, each in found["by_voice"].items()} == {"a": 4, "b": 1}
    assert {voice: each["mean"] for voice, each in found["by_voice"].items()} == {"a": 0.5, "b": 1.0}


def test_spans_leave_short_rests_out() -> None:
    assert list(spans(100, 40, 2)) == [(0, 40), (40, 80), (80, 100)]
    assert list(spans(84, 40, 2)) == [(0, 40), (40, 80)]
    assert list(spans(6, 41, 2)) == [(0, 6)]
