"""The speaker classifier, on speakers that differ by their filter, and what it must not listen to."""

from __future__ import annotations

import numpy as np
import pytest
from torch import Tensor

from model.codec import Codec
from model.evaluation.spectral import Waveform
from model.evaluation.voice import VoiceEmbedding, classify, evaluate_voice, fit_voices, segments


def speaker(number: int, seed: int) -> Waveform:
    """A throat (number: pitch and three resonances) that says something (seed: syllables and melody), 2 s."""
    throat, words = np.random.default_rng(number), np.random.default_rng(1000 + seed)
    time = np.arange(32_000) / 16_000
    melody = 1 + 0.05 * np.sin(2 * np.pi * words.uniform(0.5, 2) * time + words.uniform(0, 6))
    pitch = throat.uniform(90, 250) * melody
    pulses = np.diff(np.floor(np.cumsum(pitch) / 16_000), prepend=0.0) + 0.02 * words.standard_normal(
        len(time)
    )
    frequencies = np.fft.rfftfreq(len(time), 1 / 16_000)
    gain = sum(np.exp(-(((frequencies - throat.uniform(300, 5000)) / 400) ** 2)) for _ in range(3)) + 0.02
    voiced = np.fft.irfft(np.fft.rfft(pulses) * gain, len(time))
    syllables = np.clip(np.sin(2 * np.pi * words.uniform(2, 4) * time + words.uniform(0, 6)), 0.01, None)
    return (0.5 * voiced * syllables).astype(np.float32)


class PcmCodec(Codec):
    """The codec that loses nothing but half a 16-bit step: one code per sample."""

    sample_rate, hop_length, num_codebooks, codebook_size = 16_000, 1, 1, 65_536
    context_frames, past_samples = 0, 0

    def encode(self, waveform: Tensor) -> Tensor:
        return ((waveform * 32_767).round().long() + 32_768)[:, None]

    def decode(
        self, codes: Tensor, start: int = 0, stop: int | None = None, past: Tensor | None = None
    ) -> Tensor:
        return (codes[:, 0, start:stop] - 32_768) / 32_767


@pytest.fixture(scope="module")
def codec() -> Codec:
    return PcmCodec()


@pytest.fixture(scope="module")
def embedding(codec: Codec) -> VoiceEmbedding:
    clips = [speaker(number, seed) for number in range(20) for seed in range(3)]
    return fit_voices(codec, clips, [str(number) for number in range(20) for _ in range(3)])


def _evaluate(codec: Codec, embedding: VoiceEmbedding, spoken_by: list[int]) -> float:
    people = range(40, 46)
    result = evaluate_voice(
        embedding,
        codec,
        {str(number): [speaker(number, seed) for seed in (0, 1)] for number in people},
        [str(number) for number in people],
        [speaker(number, 7) for number in spoken_by],
        [speaker(number, 8) for number in people],
    )
    assert result["chance"] == pytest.approx(1 / 6)
    assert result["ceiling"]["mean"] > 0.8
    return float(result["accuracy"]["mean"])


def test_kept_and_exchanged_voices(codec: Codec, embedding: VoiceEmbedding) -> None:
    assert _evaluate(codec, embedding, [40, 41, 42, 43, 44, 45]) > 0.8
    assert _evaluate(codec, embedding, [41, 42, 43, 44, 45, 40]) < 0.2


def test_takes_of_one_prompt_count_as_one(codec: Codec, embedding: VoiceEmbedding) -> None:
    """Two prompts, each kept in one of two takes: half, as sure as two trials can be."""
    result = evaluate_voice(
        embedding,
        codec,
        {str(number): [speaker(number, seed) for seed in (0, 1)] for number in (40, 41)},
        ["40", "40", "41", "41"],
        [speaker(number, 7) for number in (40, 41, 40, 41)],
        [speaker(number, 8) for number in (40, 40, 41, 41)],
        takes=2,
    )
    assert (result["accuracy"]["mean"], result["accuracy"]["count"]) == (0.5, 2)
    assert result["ceiling"]["count"] == 2


def test_loudness_plays_no_part(embedding: VoiceEmbedding) -> None:
    clip = speaker(50, 0)
    assert float(embedding(clip) @ embedding(0.3 * clip)) > 0.99


def test_the_nearest_speaker_is_chosen() -> None:
    enrolled = {"a": np.array([1.0, 0.0], np.float32), "b": np.array([0.0, 1.0], np.float32)}
    assert classify(np.array([0.6, 0.8], np.float32), enrolled) == "b"


def test_segments_cover_a_clip() -> None:
    assert [len(piece) for piece in segments(np.zeros(16_000 * 11, np.float32))] == [64_000, 64_000, 48_000]
    assert [len(piece) for piece in segments(np.zeros(16_000 * 9, np.float32))] == [64_000, 64_000]
    assert [len(piece) for piece in segments(np.zeros(16_000, np.float32))] == [16_000]
