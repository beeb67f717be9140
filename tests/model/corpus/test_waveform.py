"""Trimming, cutting and level."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from model.errors import AudioError
from model.training.corpus.waveform import (
    SAMPLE_RATE,
    cut_at_quiet_places,
    read_waveform,
    set_level,
    trim_silence,
)
from tests.model.corpus.sounds import silence, tone


def test_silence_around_and_inside_a_gated_clip_goes() -> None:
    gated = np.concatenate(
        [silence(2.0), tone(1.0), silence(3.0), tone(1.0), silence(0.3), tone(0.5), silence(4.0)]
    )
    trimmed = trim_silence(gated, margin=0.1, longest_gap=0.5)
    assert len(trimmed) / SAMPLE_RATE == pytest.approx(0.1 + 1.0 + 0.5 + 1.0 + 0.3 + 0.5 + 0.1, abs=0.03)


def test_a_pause_in_a_real_room_stays() -> None:
    rng = np.random.default_rng(0)
    speech = np.concatenate([tone(1.0), silence(2.0), tone(1.0)])
    speech += rng.normal(0.0, 0.001, len(speech)).astype(np.float32)  # -60 dB: a quiet room
    assert len(trim_silence(speech)) == len(speech)


def test_nothing_is_left_of_silence() -> None:
    assert trim_silence(silence(1.0)).size == 0


def test_cuts_fall_into_pauses() -> None:
    words = [tone(0.8, 150.0 + 10.0 * number) for number in range(60)]
    waveform = np.concatenate([part for word in words for part in (word, silence(0.4))])  # 72 s
    pieces = cut_at_quiet_places(waveform, 30.0, 2.0)
    assert len(pieces) >= 3
    for piece in pieces[:-1]:
        assert np.abs(piece[-160:]).max() == 0.0


@settings(deadline=None, max_examples=40)
@given(seconds=st.floats(0.0, 40.0), longest=st.floats(2.0, 9.0), seed=st.integers(0, 99))
def test_pieces_are_the_whole_and_within_bounds(seconds: float, longest: float, seed: int) -> None:
    waveform = np.random.default_rng(seed).normal(0.0, 0.1, round(seconds * SAMPLE_RATE)).astype(np.float32)
    pieces = cut_at_quiet_places(waveform, longest, 1.0)
    assert np.array_equal(np.concatenate(pieces), waveform)
    assert max(len(piece) for piece in pieces) <= round(longest * SAMPLE_RATE)
    if len(pieces) > 1:
        assert min(len(piece) for piece in pieces) >= SAMPLE_RATE


def test_level_is_set_but_never_clips() -> None:
    assert np.sqrt(np.mean(set_level(tone(1.0), -20.0) ** 2)) == pytest.approx(0.1, rel=1e-3)
    click = silence(1.0)
    click[100] = 0.5
    assert np.abs(set_level(click, -20.0)).max() == pytest.approx(0.97)
    assert not set_level(silence(1.0), -20.0).any()


def test_any_rate_and_channels_become_16_khz_mono(tmp_path: Path) -> None:
    time = np.arange(44_100) / 44_100
    left = np.sin(2 * np.pi * 440 * time)
    soundfile.write(tmp_path / "stereo.wav", np.stack([left, 0.5 * left], axis=1) * 0.5, 44_100)
    waveform = read_waveform(tmp_path / "stereo.wav")
    assert waveform.shape == (16_000,) and waveform.dtype == np.float32
    assert np.abs(waveform[2000:-2000]).max() == pytest.approx(0.375, abs=0.01)


def test_a_file_that_is_no_audio_is_named(tmp_path: Path) -> None:
    (tmp_path / "text.wav").write_text("hello")
    with pytest.raises(AudioError, match=r"text\.wav"):
        read_waveform(tmp_path / "text.wav")
