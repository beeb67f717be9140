"""Tempo of click tracks, key of chords, and the comparison with strangers."""

from __future__ import annotations

import math

import numpy as np
import pytest

from model.evaluation.piano import (
    correlation,
    evaluate_piano,
    pitch_classes,
    tempo,
    tempo_agreement,
    tempo_deviation,
)
from tests.model.evaluation.signals import chord, clicks


@pytest.mark.parametrize("beats_per_minute", [70.0, 100.0, 132.0])
def test_tempo_of_a_click_track(beats_per_minute: float) -> None:
    assert tempo(clicks(beats_per_minute)) == pytest.approx(beats_per_minute, rel=0.03)


def test_tempo_counts_octaves_as_equal() -> None:
    assert tempo_deviation(60.0, 120.0) == pytest.approx(0.0)
    assert tempo_deviation(60.0, 60.0 * math.sqrt(2.0)) == pytest.approx(0.5)
    assert tempo_agreement(100.0, 105.0) == 1.0
    assert tempo_agreement(100.0, 115.0) == 0.0
    assert math.isnan(tempo_agreement(100.0, float("nan")))


def test_key_of_a_transposed_chord_differs() -> None:
    tonic = pitch_classes(chord([60, 64, 67]))
    assert correlation(tonic, pitch_classes(chord([72, 76, 79]))) > 0.8
    assert correlation(tonic, pitch_classes(chord([61, 65, 68]))) < 0.2


def test_a_continuation_that_keeps_key_and_tempo_beats_strangers() -> None:
    keys = ([60, 64, 67], [61, 65, 68], [63, 66, 70])
    tempi = (70.0, 95.0, 120.0)
    clips = [chord(key, 4.0) + clicks(beats, 4.0) for key, beats in zip(keys, tempi, strict=True)]
    result = evaluate_piano(clips, clips, clips, ["a", "b", "c"], np.random.default_rng(0))
    for name in ("key", "rhythm", "tempo"):
        assert result[name]["continuation"]["mean"] == pytest.approx(1.0)
        assert result[name]["margin"]["low"] > 0.2
    swapped = evaluate_piano(clips, clips[1:] + clips[:1], clips, ["a", "b", "c"], np.random.default_rng(0))
    assert swapped["key"]["margin"]["mean"] < 0.2


def test_clips_of_one_piece_are_no_strangers() -> None:
    clips = [chord([60, 64, 67]), chord([60, 64, 67])]
    result = evaluate_piano(clips, clips, clips, ["same", "same"], np.random.default_rng(0))
    assert result["key"]["other"]["count"] == 0
