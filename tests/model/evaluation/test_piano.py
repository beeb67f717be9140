"""Key of chords, and the comparison with strangers."""

from __future__ import annotations

import numpy as np
import pytest

from model.evaluation.piano import correlation, evaluate_piano, pitch_classes
from tests.model.evaluation.signals import chord, clicks


def test_key_of_a_transposed_chord_differs() -> None:
    tonic = pitch_classes(chord([60, 64, 67]))
    assert correlation(tonic, pitch_classes(chord([72, 76, 79]))) > 0.8
    assert correlation(tonic, pitch_classes(chord([61, 65, 68]))) < 0.2


def test_a_continuation_that_keeps_key_and_tempo_beats_strangers() -> None:
    keys = ([60, 64, 67], [61, 65, 68], [63, 66, 70])
    tempi = (70.0, 95.0, 120.0)
    works = ["a", "b", "c"]
    clips = [chord(key, 4.0) + clicks(beats, 4.0) for key, beats in zip(keys, tempi, strict=True)]
    swapped = clips[1:] + clips[:1]
    kept = evaluate_piano(clips, clips, clips, swapped, works, np.random.default_rng(0))
    lost = evaluate_piano(clips, swapped, clips, clips, works, np.random.default_rng(0))
    for name in ("key", "tempo"):
        assert kept[name]["continuation"]["mean"] == pytest.approx(1.0)
        assert kept[name]["margin"]["low"] > 0.2
        assert kept[name]["truth"]["mean"] > 0.5 + kept[name]["ceiling"]["mean"]
        assert lost[name]["margin"]["mean"] < 0.0


def test_clips_of_one_piece_are_no_strangers() -> None:
    clips = [chord([60, 64, 67]), chord([60, 64, 67])]
    result = evaluate_piano(clips, clips, clips, clips, ["same", "same"], np.random.default_rng(0))
    assert result["key"]["other"]["count"] == 0


def test_takes_of_one_prompt_count_as_one() -> None:
    clips = [chord([60, 64, 67]), chord([60, 64, 67]), chord([61, 65, 68]), chord([61, 65, 68])]
    made = [clips[0], clips[2], clips[2], clips[0]]  # each prompt is kept in one of two takes
    works = ["a", "a", "b", "b"]
    result = evaluate_piano(clips, made, clips, clips, works, np.random.default_rng(0), takes=2)
    assert result["key"]["continuation"]["count"] == 2
    assert result["key"]["margin"]["mean"] == pytest.approx(0.0, abs=1e-6)
