"""Distortions: lengths, places, repeatability, and that each does what its name says."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from model.codec import SpectralCodec
from model.config import PRESETS
from model.distortions.distortion import Chain, Distortion, Waveform, level_of
from model.distortions.registry import PAIRS, Material, distortions
from model.distortions.splicing import splice
from tests.conftest import chord

RATE = 16_000


def speech_like(seconds: float, seed: int) -> Waveform:
    """Noise in bursts of changing color, whose place in time can be found again."""
    rng = np.random.default_rng(seed)
    noise = rng.standard_normal(round(seconds * RATE)).astype(np.float32)
    smooth = np.convolve(noise, np.ones(6) / 6, "same")
    bursts = np.repeat(rng.uniform(0.05, 1.0, len(noise) // 800 + 1), 800)[: len(noise)]
    return (0.2 * bursts * smooth).astype(np.float32)


@pytest.fixture(scope="module")
def battery() -> dict[str, Distortion]:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        codec = SpectralCodec(PRESETS["tiny"].codec).eval()
    return distortions(Material(codec, [speech_like(3.0, 1), speech_like(1.0, 2)], [chord(2.0)]))


@pytest.fixture(scope="module")
def clip() -> Waveform:
    return speech_like(1.5, 0)


def test_every_distortion_is_repeatable_finite_and_as_long_as_it_says(
    battery: dict[str, Distortion], clip: Waveform
) -> None:
    for name, distortion in battery.items():
        once, again = (distortion(clip, np.random.default_rng(3)) for _ in range(2))
        assert once.dtype == np.float32 and once.ndim == 1, name
        assert np.array_equal(once, again), name
        assert np.isfinite(once).all(), name
        assert (len(once) == len(clip)) == distortion.keeps_length, name
        assert len(distortion(clip[:0], np.random.default_rng(0))) == 0, name


def test_the_input_is_left_alone(battery: dict[str, Distortion], clip: Waveform) -> None:
    before = clip.copy()
    for distortion in battery.values():
        distortion(clip, np.random.default_rng(0))
    assert np.array_equal(clip, before)


@pytest.mark.parametrize(
    "name",
    [
        "mp3_32k",
        "mp3_64k",
        "opus_24k",
        "vorbis_0.4",
        "mu_law",
        "resampling_8000",
        "low_pass_3400",
        "equalizer_6dB",
    ],
)
def test_sound_stays_at_its_place(battery: dict[str, Distortion], clip: Waveform, name: str) -> None:
    out = battery[name](clip, np.random.default_rng(0))
    spectra = np.fft.rfft(out, 2 * len(clip)) * np.conj(np.fft.rfft(clip, 2 * len(clip)))
    assert int(np.argmax(np.fft.irfft(spectra))) == 0


def test_aac_is_there_with_ffmpeg_and_stays_at_its_place(
    battery: dict[str, Distortion], clip: Waveform
) -> None:
    if "aac_64k" not in battery:
        pytest.skip("no ffmpeg")
    out = battery["aac_64k"](clip, np.random.default_rng(0))
    assert float(np.corrcoef(out, clip)[0, 1]) > 0.9


@pytest.mark.parametrize("name", ["white_noise_20dB", "pink_noise_20dB", "babble_20dB", "music_bed_20dB"])
def test_noise_has_its_level(battery: dict[str, Distortion], clip: Waveform, name: str) -> None:
    added = battery[name](clip, np.random.default_rng(0)) - clip
    assert 20 * np.log10(level_of(clip) / level_of(added)) == pytest.approx(20, abs=0.01)


def test_pink_noise_falls_by_three_decibels_per_octave(battery: dict[str, Distortion]) -> None:
    clip = np.full(4 * RATE, 0.1, np.float32)
    power = np.abs(np.fft.rfft(battery["pink_noise_10dB"](clip, np.random.default_rng(0)) - clip)) ** 2
    low, high = (power[4 * f : 8 * f].mean() for f in (500, 2_000))  # an octave each, two apart
    assert 10 * np.log10(low / high) == pytest.approx(6, abs=1)


def test_filters_cut_off_where_they_should(battery: dict[str, Distortion]) -> None:
    time = np.arange(RATE) / RATE
    tones = {hertz: np.sin(2 * np.pi * hertz * time).astype(np.float32) for hertz in (200, 1_000, 6_000)}

    def gain(name: str, hertz: int) -> float:
        inside = slice(2000, -2000)
        return level_of(battery[name](tones[hertz], np.random.default_rng(0))[inside]) / level_of(
            tones[hertz][inside]
        )

    assert gain("low_pass_3400", 1_000) == pytest.approx(1, abs=0.01) and gain("low_pass_3400", 6_000) < 0.05
    assert gain("high_pass_500", 1_000) == pytest.approx(1, abs=0.01) and gain("high_pass_500", 200) < 0.05


def test_speed_changes_pitch_and_length_together_and_tempo_only_length(
    battery: dict[str, Distortion],
) -> None:
    tone = np.sin(2 * np.pi * 1_000 * np.arange(2 * RATE) / RATE).astype(np.float32)

    def pitch(waveform: Waveform) -> float:
        return float(np.argmax(np.abs(np.fft.rfft(waveform)))) * RATE / len(waveform)

    faster, quicker, higher = (
        battery[name](tone, np.random.default_rng(0)) for name in ("speed_1.1", "tempo_1.05", "pitch_+1")
    )
    assert len(faster) == pytest.approx(len(tone) / 1.1, abs=2) and pitch(faster) == pytest.approx(
        1_100, abs=2
    )
    assert len(quicker) == pytest.approx(len(tone) / 1.05, abs=2) and pitch(quicker) == pytest.approx(
        1_000, abs=2
    )
    assert len(higher) == len(tone) and pitch(higher) == pytest.approx(1_000 * 2 ** (1 / 12), abs=4)


def test_compressor_brings_loud_and_quiet_closer(battery: dict[str, Distortion]) -> None:
    loud, quiet = 0.5 * speech_like(1.0, 4), 0.05 * speech_like(1.0, 4)
    out = battery["compressor"](np.concatenate([loud, quiet]), np.random.default_rng(0))
    assert level_of(out[:RATE]) / level_of(out[RATE:]) < 0.7 * level_of(loud) / level_of(quiet)


def test_splice_says_where_the_clip_lies(clip: Waveform) -> None:
    host = speech_like(5.0, 7)
    out, (start, stop) = splice(clip, host, 20_000)
    assert (start, stop) == (20_000, 20_000 + len(clip)) and len(out) == len(host)
    assert np.array_equal(out[start + 160 : stop - 160], clip[160:-160])
    outside = np.concatenate([out[:start], out[stop:]])
    same = np.concatenate([host[:start], host[stop:]])
    assert float(np.corrcoef(outside, same)[0, 1]) == pytest.approx(1)


def test_other_recordings_are_only_asked_of_those_who_have_them(battery: dict[str, Distortion]) -> None:
    bare = distortions(Material())
    assert not {name for name in bare if "babble" in name or "music" in name or "own_codec" in name}
    assert {f"own_codec_{depth}" for depth in range(1, 13)} <= set(battery)
    assert {"mp3_64k", "opus_24k", "mel_resynthesis", "speed_0.9", "crop_60%"} <= set(bare)


def test_pairs_are_one_after_the_other(battery: dict[str, Distortion], clip: Waveform) -> None:
    first, second = PAIRS[0]
    pair = battery[f"{first}+{second}"]
    assert isinstance(pair, Chain)
    rng = np.random.default_rng(0)
    by_hand = battery[second](battery[first](clip, rng), rng)
    assert np.array_equal(pair(clip, np.random.default_rng(0)), by_hand)
