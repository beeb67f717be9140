from __future__ import annotations

import io

import numpy as np
import numpy.typing as npt
import pytest
import soundfile
import soxr

from model.config import SAMPLE_RATE
from model.errors import AudioError
from model.watermark import WatermarkKey, embed, find
from model.watermark.features import Features
from model.watermark.hypotheses import search
from model.watermark.pattern import Pattern
from tests.model.watermark.sounds import KEY, OTHER_KEY, voice

PLAIN = voice(5.0, seed=2)
MARKED = embed(PLAIN, KEY, 4711)


def through_file(waveform: npt.NDArray[np.float32], format: str, subtype: str) -> npt.NDArray[np.float32]:
    file = io.BytesIO()
    soundfile.write(file, waveform, SAMPLE_RATE, format=format, subtype=subtype)
    file.seek(0)
    decoded, rate = soundfile.read(file, dtype="float32")
    return np.asarray(soxr.resample(decoded, rate, SAMPLE_RATE), np.float32)


def test_the_mark_and_its_payload_are_found() -> None:
    mark = find(MARKED, [KEY])
    assert mark.present
    assert mark.p_value < 1e-12
    assert mark.payload == 4711
    assert mark.key_id == KEY.key_id
    assert (mark.duration, mark.pitch) == (1.0, 1.0)
    [(start, end)] = mark.segments
    assert start < 0.1
    assert end > 4.9


def test_neither_another_key_nor_an_unmarked_clip_shows_a_mark() -> None:
    for waveform, key in ((MARKED, OTHER_KEY), (PLAIN, KEY)):
        mark = find(waveform, [key])
        assert not mark.present
        assert mark.p_value > 1e-3
        assert (mark.payload, mark.key_id, mark.segments) == (None, None, ())


def test_the_right_one_of_several_keys_is_named() -> None:
    assert find(MARKED, [OTHER_KEY, KEY]).key_id == KEY.key_id
    assert not find(MARKED, []).present


@pytest.mark.parametrize("payload", [0, 0xFFFF, 0b1010101010101010])
def test_any_payload_is_read_from_a_piece_of_two_seconds(payload: int) -> None:
    piece = embed(voice(5.0, seed=payload), KEY, payload)[20_011 : 20_011 + 2 * SAMPLE_RATE]
    assert find(piece, [KEY]).payload == payload


@pytest.mark.parametrize(("format", "subtype"), [("MP3", "MPEG_LAYER_III"), ("OGG", "OPUS"), ("WAV", "ULAW")])
def test_the_mark_survives_encoding(format: str, subtype: str) -> None:
    mark = find(through_file(MARKED, format, subtype), [KEY])
    assert mark.present
    assert mark.payload == 4711


@pytest.mark.parametrize("speed", [0.9, 0.97, 1.05, 1.1])
def test_the_mark_is_found_at_another_speed_and_the_speed_is_told(speed: float) -> None:
    played = soxr.resample(MARKED, SAMPLE_RATE * speed, SAMPLE_RATE).astype(np.float32)
    mark = find(played, [KEY])
    assert mark.present
    assert mark.payload == 4711
    assert mark.duration == pytest.approx(1 / speed, rel=0.01)


def test_the_seconds_of_a_prompt_are_not_reported() -> None:
    mark = find(np.concatenate([voice(3.0, seed=9), MARKED]), [KEY])
    [(start, end)] = mark.segments
    assert start == pytest.approx(3.0, abs=0.3)
    assert end == pytest.approx(8.0, abs=0.1)


def test_two_generations_in_one_clip_are_both_reported() -> None:
    second = embed(voice(3.0, seed=11), KEY, 12)
    between = voice(2.0, seed=12)
    mark = find(np.concatenate([MARKED, between, second]), [KEY])
    assert mark.payload == 4711
    (_, first_end), (second_start, _) = mark.segments
    assert first_end == pytest.approx(5.0, abs=0.3)
    assert second_start == pytest.approx(7.0, abs=0.3)


def test_louder_quieter_and_upside_down_make_no_difference() -> None:
    levels = [find(np.float32(gain) * MARKED, [KEY]).p_value for gain in (1.0, 0.01, -0.5)]
    assert levels[1] == pytest.approx(levels[0], rel=1e-2)
    assert levels[2] == pytest.approx(levels[0], rel=1e-2)


@pytest.mark.parametrize("length", [0, 1, 511, 4000, 12_300, 16_000])
def test_short_and_silent_clips_give_a_number(length: int) -> None:
    for waveform in (np.zeros(length, np.float32), np.ones(length, np.float32), PLAIN[:length]):
        mark = find(waveform, [KEY])
        assert not mark.present
        assert 0 < mark.p_value <= 1


def test_samples_that_are_no_numbers_are_refused() -> None:
    broken = MARKED.copy()
    broken[7] = np.nan
    with pytest.raises(AudioError) as refusal:
        find(broken, [KEY])
    assert refusal.value.code == "non_finite"


def test_p_values_of_an_unmarked_clip_are_uniform() -> None:
    """Over keys that had nothing to do with the clip, all warps searched."""
    rng = np.random.default_rng(3)
    patterns = [Pattern.of(WatermarkKey(rng.bytes(32))) for _ in range(80)]
    levels = np.array([finding.p_value for finding in search(Features(voice(1.0, seed=10)), patterns)])
    assert 0.4 < np.median(levels) < 0.75
    assert 0.03 < (levels < 0.1).mean() < 0.15
    assert (levels < 0.01).mean() < 0.05
