"""Distances between two versions of one sound, on signals whose answer is known."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest

from model.evaluation.spectral import (
    Waveform,
    chroma,
    chroma_similarity,
    intelligibility,
    log_mel_distance,
    pesq_wideband,
    si_sdr,
)
from tests.model.evaluation.signals import SPEECH_SECONDS, chord, speech_like

HIGHER_IS_BETTER = (pesq_wideband, intelligibility, si_sdr)


@pytest.mark.parametrize(
    ("metric", "perfect"),
    [
        (log_mel_distance, 0.0),
        (si_sdr, 100.0),
        (intelligibility, 1.0),
        (pesq_wideband, 4.64),
        (chroma_similarity, 1.0),
    ],
)
def test_identity_is_perfect(metric: Callable[[Waveform, Waveform], float], perfect: float) -> None:
    clip = speech_like(0)
    assert metric(clip, clip) == pytest.approx(perfect, abs=0.01)


@pytest.mark.parametrize("metric", [*HIGHER_IS_BETTER, log_mel_distance])
def test_more_noise_is_worse(metric: Callable[[Waveform, Waveform], float]) -> None:
    clip = speech_like(0)
    noise = np.random.default_rng(1).standard_normal(len(clip)).astype(np.float32)
    scores = [metric(clip, clip + level * noise) for level in (0.001, 0.01, 0.1)]
    better_first = sorted(scores, reverse=metric in HIGHER_IS_BETTER)
    assert scores == better_first
    assert len(set(scores)) == 3


def test_codec_padding_is_cut() -> None:
    clip = speech_like(0)
    padded = np.concatenate([clip, np.zeros(100, np.float32)])
    assert log_mel_distance(clip, padded) == 0.0


def test_si_sdr_ignores_gain() -> None:
    clip = speech_like(0)
    assert si_sdr(clip, 0.5 * clip) == 100.0


@pytest.mark.parametrize("metric", [pesq_wideband, intelligibility, si_sdr, chroma_similarity])
def test_silence_is_not_judged(metric: Callable[[Waveform, Waveform], float]) -> None:
    silence = np.zeros(SPEECH_SECONDS * 16_000, np.float32)
    assert math.isnan(metric(silence, silence))


def test_chroma_names_the_notes() -> None:
    energy = chroma(chord([57, 61, 64])).mean(axis=1)  # A major
    assert set(np.argsort(energy)[-3:].tolist()) == {9, 1, 4}


def test_transposed_music_differs() -> None:
    music = chord([60, 64, 67])
    assert chroma_similarity(music, chord([61, 65, 68])) < 0.2


@pytest.mark.parametrize("length", [1, 63, 400])
def test_clips_shorter_than_a_window(length: int) -> None:
    clip = np.full(length, 0.1, np.float32)
    assert log_mel_distance(clip, clip) == 0.0
    assert chroma(clip).shape[0] == 12
