"""Fingerprints know a sound again after what happens to files, and know no stranger."""

from __future__ import annotations

import io

import numpy as np
import pytest
import soundfile

from model.config import SAMPLE_RATE
from model.fingerprint import (
    HOP_SAMPLES,
    MAX_BIT_ERRORS,
    NUM_BITS,
    PHASES,
    SILENT,
    STRETCH,
    Alike,
    Samples,
    Words,
    compare,
    fingerprint,
)


def voice(seed: int, seconds: float) -> Samples:
    """Something that changes as speech does: three moving resonances, syllables four times a second. [N]"""
    rng = np.random.default_rng(seed)
    time = np.arange(round(seconds * SAMPLE_RATE)) / SAMPLE_RATE
    knots = np.arange(0, seconds + 0.5, 0.12)
    pitch = np.interp(time, knots, rng.uniform(90, 260, len(knots)))
    harmonics = np.outer(np.arange(1, 14), 2 * np.pi * np.cumsum(pitch) / SAMPLE_RATE)
    weights = [np.interp(time, knots, rng.uniform(0.05, 1, len(knots))) / n for n in range(1, 14)]
    loudness = np.interp(time, knots, rng.uniform(0.1, 1, len(knots)))
    wave = (np.sin(harmonics) * weights).sum(axis=0) * loudness + 0.01 * rng.standard_normal(len(time))
    return (0.5 * wave / np.abs(wave).max()).astype(np.float32)


def through(samples: Samples, format: str, subtype: str | None = None, **options: float) -> Samples:
    file = io.BytesIO()
    with soundfile.SoundFile(file, "w", SAMPLE_RATE, 1, subtype, format=format, **options) as sound:
        sound.write(samples)
    file.seek(0)
    return np.asarray(soundfile.read(file, dtype="float32")[0])


def find(known: Words, asked: Samples) -> Alike | None:
    """The best place of all."""
    words = fingerprint(asked, HOP_SAMPLES // PHASES)
    found = [compare(known, words, offset) for offset in range(-PHASES * len(known), len(words))]
    return min((alike for alike in found if alike), key=lambda alike: alike.bit_errors, default=None)


ATTACKS = {
    "gain": lambda samples: samples * 0.1,
    "crop": lambda samples: samples[12_345:],
    "MP3 at its lowest quality": lambda samples: through(samples, "MP3", compression_level=0.9),
    "Opus": lambda samples: through(samples, "OGG", "OPUS", compression_level=0.9),
    "Vorbis": lambda samples: through(samples, "OGG", "VORBIS", compression_level=0.9),
    "8 bits": lambda samples: through(samples, "WAV", "PCM_U8"),
    "mu-law": lambda samples: through(samples, "WAV", "ULAW"),
    "noise at 20 dB": lambda samples: (
        samples + 0.1 * samples.std() * np.random.default_rng(0).standard_normal(len(samples))
    ).astype(np.float32),
}


@pytest.mark.parametrize("attack", ATTACKS)
@pytest.mark.parametrize("seed", [1, 2])
def test_a_sound_is_known_again(attack: str, seed: int) -> None:
    clip = voice(seed, 6)
    made = clip[2 * SAMPLE_RATE : 4 * SAMPLE_RATE]
    attacked = ATTACKS[attack](clip)
    found = find(fingerprint(made), attacked)
    assert found is not None
    start = 2.0 - (12_345 / SAMPLE_RATE if attack == "crop" else 0.0)
    assert found.spans[0][0] == pytest.approx(start, abs=0.25)
    assert found.spans[-1][1] == pytest.approx(start + 2, abs=0.25)


def test_one_second_is_enough() -> None:
    made = voice(3, 1)
    assert (
        find(fingerprint(made), np.concatenate([voice(4, 1.3), through(made, "MP3"), voice(5, 1)]))
        is not None
    )


def test_strangers_differ_in_half_their_bits_and_none_comes_near() -> None:
    """The bound that the module states: of stretches of 20 frames, standard deviation below 0.035."""
    prints = [fingerprint(voice(seed, 5)) for seed in range(40)]
    rates = []
    for i, one in enumerate(prints):
        for other in prints[:i]:
            errors = np.bitwise_count(one ^ other)
            rates += [
                errors[at : at + STRETCH].mean() / NUM_BITS for at in range(0, len(errors) - STRETCH, STRETCH)
            ]
    assert len(rates) > 5_000
    assert np.mean(rates) == pytest.approx(0.5, abs=0.01)
    assert np.std(rates) < 0.035
    assert min(rates) > MAX_BIT_ERRORS + 0.05


@pytest.mark.parametrize("nothing", [np.zeros(48_000, np.float32), np.full(48_000, 0.2, np.float32)])
def test_silence_is_like_nothing(nothing: Samples) -> None:
    assert (fingerprint(nothing) == SILENT).all()
    assert find(fingerprint(nothing), nothing) is None


def test_a_steady_tone_says_too_little() -> None:
    tone = (0.3 * np.sin(2 * np.pi * 1000 * np.arange(48_000) / SAMPLE_RATE)).astype(np.float32)
    other = (0.2 * np.sin(2 * np.pi * 1000 * np.arange(48_000) / SAMPLE_RATE + 1)).astype(np.float32)
    assert find(fingerprint(tone), other) is None


@pytest.mark.parametrize("length", [0, 100, 4096, 4607])
def test_what_is_too_short_has_no_words(length: int) -> None:
    assert len(fingerprint(voice(1, 1)[:length])) == 0
