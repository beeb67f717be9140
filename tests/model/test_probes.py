"""Linear probes: they find what is in the tokens and nothing where there is nothing."""

from __future__ import annotations

import numpy as np

from model.evaluation.probes import halves, note_precision, one_hot, phone_accuracy, speaker_accuracy


def test_one_hot_puts_both_codec_frames_into_one_row() -> None:
    tokens = np.array([[[0, 1, 2, 2], [1, 0, 0, 0]]])  # one clip, two codebooks, four codec frames
    features = one_hot(tokens, vocabulary=3, frames=2).toarray()
    expected = np.zeros((2, 12))
    expected[0, [0, 3 + 1, 6 + 1, 9 + 0]] = 1  # book 0: 0, 1; book 1: 1, 0
    expected[1, [2, 3 + 2, 6 + 0, 9 + 0]] = 1
    assert np.array_equal(features, expected)


def test_halves_share_no_clip_and_hold_all() -> None:
    fit, held = halves(11)
    assert sorted([*fit, *held]) == list(range(11))


def test_phones_are_found_in_tokens_that_hold_them_only() -> None:
    rng = np.random.default_rng(0)
    phones = rng.integers(5, size=(20, 50))
    phones[:, ::7] = -1
    telling = (phones.clip(0) * 4 + rng.integers(4, size=phones.shape))[:, None]
    assert phone_accuracy(telling, 20, phones) > 0.95
    assert phone_accuracy(rng.integers(20, size=telling.shape), 20, phones) < 0.35


def test_notes_are_found_in_tokens_that_hold_them_only() -> None:
    rng = np.random.default_rng(0)
    key = rng.integers(6, size=(20, 50))
    notes = np.eye(12, dtype=bool)[key] | np.eye(12, dtype=bool)[(key + 4) % 12]
    assert note_precision(key[:, None], 6, notes) > 0.95
    assert note_precision(rng.integers(6, size=(20, 1, 50)), 6, notes) < 0.35


def test_speakers_are_found_in_tokens_that_hold_them_only() -> None:
    rng = np.random.default_rng(0)
    speakers = [str(i % 5) for i in range(60)]
    fit = np.arange(60) < 30
    telling = [rng.integers(4, size=(1, 100)) + 4 * int(name) for name in speakers]
    accuracy, chance = speaker_accuracy(telling, 20, speakers, fit)
    assert accuracy > 0.9 and chance == 0.2
    silent = [rng.integers(20, size=(1, 100)) for _ in speakers]
    assert speaker_accuracy(silent, 20, speakers, fit)[0] < 0.5
