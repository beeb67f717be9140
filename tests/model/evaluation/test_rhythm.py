"""Onsets of notes that ring into each other, and what counts as the same pace."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pytest

from model.config import SAMPLE_RATE
from model.evaluation.rhythm import intervals, onset_times, overlap
from model.evaluation.spectral import Waveform
from tests.model.evaluation.signals import chord, clicks

LONG_SHORT = (0.0, 0.4, 0.6, 1.0, 1.2, 1.6, 1.8, 2.2, 2.4, 2.8)  # seconds: a dance


def played(onsets: Sequence[float], keys: Sequence[int] = (60, 64, 67), seconds: float = 3.5) -> Waveform:
    """A ringing tone at each onset, as with the pedal down; keys take turns."""
    sound = 1e-4 * np.random.default_rng(0).standard_normal(round(seconds * SAMPLE_RATE))
    for place, onset in enumerate(onsets):
        start = round((0.1 + onset) * SAMPLE_RATE)
        tone = chord([keys[place % len(keys)]], seconds)[: len(sound) - start]
        sound[start:] += tone * np.exp(-1.5 * np.arange(len(tone)) / SAMPLE_RATE)
    return sound.astype(np.float32)


def at_tempo(factor: float) -> Waveform:
    return played([onset / factor for onset in LONG_SHORT], (62, 65, 69, 72), 0.5 + 3.0 / factor)


@pytest.mark.parametrize("level", [1.0, 0.03])
def test_onsets_of_ringing_notes(level: float) -> None:
    found = onset_times(level * played(LONG_SHORT))
    np.testing.assert_allclose(found, 0.1 + np.array(LONG_SHORT), atol=0.03)


def test_notes_of_a_chord_begin_together() -> None:
    rolled = played([0.0, 0.02, 1.0, 1.02, 2.0, 2.02])
    assert len(onset_times(rolled)) == 3


def test_the_nearer_the_tempo_the_larger_the_overlap() -> None:
    prompt = intervals(played(LONG_SHORT))
    same, rubato, faster, strange = (overlap(prompt, intervals(at_tempo(f))) for f in (1.0, 1.06, 1.25, 1.45))
    assert same > 0.9
    assert same > rubato > 0.6
    assert rubato > faster > strange
    assert strange < 0.25


def test_twice_as_fast_is_another_tempo() -> None:
    assert overlap(intervals(clicks(70.0)), intervals(clicks(70.0, 3.0))) > 0.9
    assert overlap(intervals(clicks(70.0)), intervals(clicks(140.0))) < 0.1


@pytest.mark.parametrize(
    "still", [np.zeros(48_000, np.float32), np.zeros(0, np.float32), chord([60], 3.0), clicks(90.0)[:3000]]
)
def test_where_nothing_follows_there_is_no_pace(still: Waveform) -> None:
    pace = intervals(clicks(90.0))
    assert not intervals(still).any()
    assert overlap(pace, intervals(still)) == 0.0  # a continuation that fell silent did not keep it
    assert math.isnan(overlap(intervals(still), pace))  # a prompt without one asks for nothing
