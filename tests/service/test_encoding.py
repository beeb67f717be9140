"""Samples to files and back: any length, any cut into pieces, every format."""

from __future__ import annotations

import io

import numpy as np
import numpy.typing as npt
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from service.audio import decode_upload
from service.encoding import LOSSLESS, Format, encode, open_encoder, quantize
from tests.service.conftest import sound_file, tone

Samples = npt.NDArray[np.float32]

formats = st.sampled_from(["wav", "flac", "ogg", "mp3", "pcm"])


def noise(num_samples: int, seed: int = 0) -> Samples:
    return np.random.default_rng(seed).uniform(-1.2, 1.2, num_samples).astype(np.float32)


def read(data: bytes, format: Format) -> Samples:
    if format == "pcm":
        return (np.frombuffer(data, "<i2") / 32768).astype(np.float32)
    samples, rate = soundfile.read(io.BytesIO(data), dtype="float32")
    assert rate == 16_000
    return np.asarray(samples, np.float32)


def piecewise(samples: Samples, format: Format, bit_depth: int, sizes: list[int]) -> bytes:
    encoder = open_encoder(format, len(samples), bit_depth)
    pieces = []
    for start, stop in zip(np.cumsum([0, *sizes]), np.cumsum([*sizes, len(samples)]), strict=True):
        pieces.append(encoder.feed(samples[start : min(stop, len(samples))]))
    data = b"".join([*pieces, encoder.close()])
    assert encoder.num_bytes in (None, len(data))
    return data


@settings(deadline=None, max_examples=60)
@given(
    formats, st.sampled_from([16, 24]), st.lists(st.integers(0, 6_000), max_size=5), st.integers(0, 2**32 - 1)
)
def test_pieces_hold_the_samples_of_the_whole(
    format: Format, bit_depth: int, sizes: list[int], seed: int
) -> None:
    samples = noise(sum(sizes) + 1, seed)
    whole = encode(samples, format, bit_depth)
    live = piecewise(samples, format, bit_depth, sizes)
    assert len(read(whole, format)) == len(samples)
    assert np.array_equal(read(live, format), read(whole, format))
    if format in ("wav", "pcm"):
        assert live == whole


@settings(deadline=None, max_examples=30)
@given(st.sampled_from(LOSSLESS), st.sampled_from([16, 24]), st.integers(1, 20_000))
def test_lossless_formats_hold_the_quantized_samples(
    format: Format, bit_depth: int, num_samples: int
) -> None:
    samples = noise(num_samples)
    depth = 16 if format == "pcm" else bit_depth
    assert np.array_equal(
        read(encode(samples, format, bit_depth), format), quantize(samples, depth) / 2.0 ** (depth - 1)
    )


@settings(deadline=None, max_examples=40)
@given(
    st.sampled_from(
        [("WAV", "PCM_16"), ("WAV", "FLOAT"), ("FLAC", "PCM_24"), ("OGG", "VORBIS"), ("MP3", None)]
    ),
    st.sampled_from([8_000, 11_025, 16_000, 22_050, 32_000, 44_100, 48_000]),
    st.integers(1, 2),
    st.floats(0.6, 3.0),
)
def test_uploads_of_any_rate_become_the_last_seconds(
    kind: tuple[str, str | None], rate: int, channels: int, seconds: float
) -> None:
    container, subtype = kind
    data = sound_file(tone(seconds, rate, channels), rate, container, subtype)
    prompt = decode_upload(io.BytesIO(data), keep_seconds=2.0, max_seconds=10.0)
    exact = round(seconds * rate) / rate
    assert abs(len(prompt.samples) - 16_000 * min(exact, 2.0)) <= 2
    assert abs(prompt.original_seconds - exact) < 0.01
    assert prompt.original_channels == channels
    assert prompt.samples.dtype == np.float32
    assert 0.2 < np.abs(prompt.samples).max() < 0.6


@pytest.mark.parametrize("format", LOSSLESS)
def test_what_we_send_comes_back_as_a_prompt_untouched(format: Format) -> None:
    if format == "pcm":
        return
    samples = quantize(noise(16_000).clip(-1, 1), 16) / np.float32(32768)
    prompt = decode_upload(io.BytesIO(encode(samples, format)), keep_seconds=2.0, max_seconds=10.0)
    assert np.array_equal(prompt.samples, samples)


def test_a_live_header_states_the_length() -> None:
    samples = noise(40_000)
    for format in ("wav", "flac", "mp3"):
        live = piecewise(samples, format, 16, [10_000] * 4)
        with soundfile.SoundFile(io.BytesIO(live)) as sound:
            assert sound.frames == 40_000, format
