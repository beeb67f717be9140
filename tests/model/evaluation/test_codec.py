"""The codec table: depths, rates, use of codes, the k-means baseline and Opus."""

from __future__ import annotations

import math
import struct

import numpy as np
import pytest
import torch

from model.evaluation import opus
from model.evaluation.baseline_codec import KMeansCodec, fit_baseline, k_means
from model.evaluation.codec import code_perplexity, codebook_use, evaluate_codec, opus_rows
from tests.model.evaluation.signals import chord, speech_like


@pytest.fixture(scope="module")
def baseline() -> KMeansCodec:
    clips = [speech_like(seed) for seed in range(4)]
    return fit_baseline(clips, seed=0, num_codebooks=3, codebook_size=16)


def test_baseline_keeps_the_codec_contract(baseline: KMeansCodec) -> None:
    codes = baseline.encode(torch.from_numpy(speech_like(5))[None, :1000])
    assert codes.shape == (1, 3, 4)
    assert codes.dtype == torch.int64
    assert baseline.decode(codes[:, :2]).shape == (1, 4 * 320)
    assert baseline.frame_rate == 50.0


def test_every_level_of_the_baseline_pays(baseline: KMeansCodec) -> None:
    result = evaluate_codec(baseline, [speech_like(0), speech_like(1)], (1, 2, 3, 12))
    rows = result["rows"]
    assert [row["depth"] for row in rows] == [1, 2, 3]
    assert [row["kbps"] for row in rows] == pytest.approx([0.2, 0.4, 0.6])
    errors = [row["si_sdr"] for row in rows]
    assert errors == sorted(errors)
    assert errors[-1] > errors[0] + 1.0
    assert result["frames"] == 200


def test_fitting_is_reproducible() -> None:
    clips = [speech_like(0)]
    first, second = (fit_baseline(clips, seed=3, num_codebooks=1, codebook_size=8) for _ in range(2))
    assert torch.equal(first.codebooks, second.codebooks)


def test_k_means_finds_separate_clusters() -> None:
    rng = np.random.default_rng(0)
    rows = torch.from_numpy(np.repeat(np.eye(4), 50, axis=0) * 10 + rng.normal(0, 0.1, (200, 4))).float()
    centres = k_means(rows, 4, rng)
    nearest = torch.cdist(rows, centres).min(dim=1).values
    assert float(nearest.mean()) < 5.0


def test_piano_is_judged_by_chroma_instead_of_pesq(baseline: KMeansCodec) -> None:
    row = evaluate_codec(baseline, [chord([60, 64])], (3,), kind="piano")["rows"][0]
    assert "chroma" in row
    assert "pesq" not in row


def test_use_of_codes() -> None:
    codes = torch.tensor([[0, 1, 2, 3], [2, 2, 2, 2]])
    use = codebook_use([codes, codes], codebook_size=4)
    assert use["codebook_use"] == [1.0, 0.25]
    assert use["perplexity"] == pytest.approx([4.0, 1.0])
    assert use["frames"] == 8
    assert code_perplexity(np.array([[1, 1, 0, 0]])) == pytest.approx([2.0])


@pytest.mark.skipif(opus.missing_reason() is not None, reason="opus-tools is not installed")
def test_opus_gets_better_with_its_rate() -> None:
    clip = np.concatenate([speech_like(seed) for seed in range(2)])
    rows, reason = opus_rows([clip], (6.0, 24.0))
    assert reason is None
    assert rows[0]["log_mel"] > rows[1]["log_mel"]
    assert rows[0]["kbps"] < rows[1]["kbps"]


def test_missing_opus_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    rows, reason = opus_rows([speech_like(0)])
    assert rows == []
    assert reason is not None
    assert "opusenc" in reason


def test_ogg_payload_counts_sound_packets_only() -> None:
    def page(segments: list[int]) -> bytes:
        head = b"OggS" + bytes(22) + struct.pack("B", len(segments)) + bytes(segments)
        return head + bytes(sum(segments))

    stream = page([19]) + page([255, 10]) + page([100, 255, 5, 30])  # OpusHead, OpusTags, three packets
    assert opus.ogg_payload_bytes(stream) == 390


def test_nothing_to_judge_is_not_a_number(baseline: KMeansCodec) -> None:
    row = evaluate_codec(baseline, [np.zeros(16_000, np.float32)], (1,))["rows"][0]
    assert math.isnan(row["pesq"])
