"""Word pairs: what makes a made-up word fair."""

from __future__ import annotations

import shutil

import numpy as np
import pytest

from model.errors import TrainingError
from model.evaluation.words import HEARD_VOICES, TEST_VOICES, make_up, trim, word_pairs, words_of
from model.training.aligned import ESPEAK_VARIANTS, FLITE_VOICES
from model.training.corpus import voices

TEXT = [
    "the winter garden was a binder under the wonder of a burden",
    "later in winter the ladder and the rudder",
    "Mr. Later",
] * 5


def test_names_and_numbers_are_no_words() -> None:
    counts = words_of(["It was Berlin in 1848, it was-- cold."])
    assert counts == {"was": 2, "in": 1, "it": 1, "cold": 1}


def test_a_made_up_word_differs_by_one_letter_and_looks_like_a_word() -> None:
    known = words_of(TEXT)
    rng = np.random.default_rng(0)
    found = {word: make_up(word, known, rng) for word in known}
    assert found["wonder"] == "winder"  # as in winter and binder
    for word, other in found.items():
        if other is not None:
            assert other not in known
            assert sum(a != b for a, b in zip(word, other, strict=True)) == 1


def test_voices_never_heard_are_of_no_training() -> None:
    trained = {*voices.FLITE_VOICES["train"], *voices.VARIANTS["train"], *FLITE_VOICES, *ESPEAK_VARIANTS}
    assert not {voice.split("+")[-1] for voice in TEST_VOICES} & trained
    assert {voice.split("+")[-1] for voice in HEARD_VOICES} <= trained


def test_trim_keeps_the_word_and_a_margin() -> None:
    wave = np.zeros(16_000, np.float32)
    wave[5000:9000] = 0.5
    assert len(trim(wave)) == 4000 + 2 * 960 - 1
    assert len(trim(np.zeros(100, np.float32))) == 100


@pytest.mark.skipif(shutil.which("flite") is None, reason="flite is not installed")
def test_pairs_share_voice_and_about_the_length() -> None:
    names = ("awb", "kal16")
    pairs = word_pairs(TEXT, 2, seed=0, voices=names, min_occurrences=5)
    assert [pair.voice for pair in pairs] == list(names)
    for pair in pairs:
        real, fake = (len(clip) for clip in pair.clips)
        assert 1 / 1.2 <= real / fake <= 1.2
    again = word_pairs(TEXT, 2, seed=0, voices=names, min_occurrences=5)
    assert all(np.array_equal(a.clips[1], b.clips[1]) for a, b in zip(pairs, again, strict=True))
    with pytest.raises(TrainingError, match="of 50"):
        word_pairs(TEXT, 50, seed=0, voices=names, min_occurrences=5)
