"""Loudness, silence, loops: each check must catch what it is there for."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from model.evaluation.clips import Recording
from model.evaluation.continuation import (
    Continued,
    evaluate_continuations,
    loudness,
    movement,
    repeated_share,
    self_similarity,
    silent_share,
)
from model.evaluation.spectral import Waveform
from model.evaluation.statistics import per_prompt
from tests.model.evaluation.signals import chord, clicks, speech_like

RECORDING = Recording(Path("a.flac"), "speech", "someone", "test", 8.0)


def test_loudness_follows_gain_and_leaves_pauses_out() -> None:
    clip = chord([60, 64])
    assert loudness(0.5 * clip) == pytest.approx(loudness(clip) - 6.02, abs=0.01)
    paused = np.concatenate([clip, np.zeros_like(clip), clip])
    assert loudness(paused) == pytest.approx(loudness(clip), abs=0.6)
    assert loudness(np.zeros(16_000, np.float32)) == -70.0


def test_silent_share() -> None:
    clip = chord([60])
    half = np.concatenate([clip, np.zeros_like(clip)])
    assert silent_share(half, loudness(clip)) == pytest.approx(0.5, abs=0.02)


def test_a_loop_is_found_and_varied_sound_is_not() -> None:
    rng = np.random.default_rng(0)
    piece = speech_like(0)[:12_000]
    loop = np.tile(piece, 6)
    varied = np.concatenate([speech_like(seed)[: rng.integers(8000, 24_000)] for seed in range(5)])
    assert self_similarity(loop) > 0.95
    assert self_similarity(varied) < 0.7


def test_a_hum_hardly_moves() -> None:
    assert movement(chord([48], 3.0)) < 0.1 * movement(clicks(90.0))


def test_repeated_tokens() -> None:
    assert repeated_share(np.arange(100)) == 0.0
    assert repeated_share(np.tile(np.arange(10), 10)) == pytest.approx(1 - 10 / 93)
    assert repeated_share(np.arange(3)) == 0.0


def _continued(continuation: Waveform) -> Continued:
    prompt = speech_like(1)
    return Continued(
        RECORDING, prompt, continuation, speech_like(3), np.arange(50), {"semantic": 1.0, "fine": 0.5}
    )


@pytest.mark.parametrize(
    ("continuation", "failed"),
    [
        (speech_like(2), set()),
        (0.1 * speech_like(2), {"loudness within 6 dB"}),
        (np.zeros(32_000, np.float32), {"loudness within 6 dB", "not silent", "not stuck"}),
        (np.tile(speech_like(2)[:8000], 4), {"not looping"}),
    ],
)
def test_checks_fail_for_their_own_reason(continuation: Waveform, failed: set[str]) -> None:
    checks = evaluate_continuations([_continued(continuation)], np.random.default_rng(0))["checks"]
    assert {name for name, estimate in checks.items() if estimate["mean"] < 1.0} == failed


def test_stage_seconds_are_per_second_of_sound() -> None:
    found = evaluate_continuations([_continued(speech_like(2))], np.random.default_rng(0))["stage_seconds"]
    assert found == {"semantic": 0.5, "fine": 0.25, "real-time factor": 0.75}


def test_takes_of_one_prompt_count_as_one() -> None:
    takes = [_continued(speech_like(2)), _continued(np.zeros(32_000, np.float32))]
    found = evaluate_continuations(takes, np.random.default_rng(0), takes=2)
    assert found["count"] == 1
    assert (found["checks"]["not silent"]["mean"], found["checks"]["not silent"]["count"]) == (0.5, 1)
    spoken = silent_share(takes[0].continuation, loudness(takes[0].prompt))
    assert found["means"]["silent share"]["mean"] == pytest.approx((spoken + 1) / 2)
    assert found["means"]["silent share"]["count"] == 1


def test_means_over_takes_leave_out_what_is_not_known() -> None:
    assert per_prompt([1.0, 3.0, math.nan, 5.0], 2) == [2.0, 5.0]
    assert math.isnan(per_prompt([math.nan, math.nan], 2)[0])
