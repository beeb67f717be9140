"""Decoding in spans, and the seam between a clip and its continuation."""

from __future__ import annotations

import pytest
import torch

from model.codec import SpectralCodec
from model.config import PRESETS
from model.rendering import SEAM_SAMPLES, ease_seam, largest_jump, render, render_span
from tests.conftest import chord


@pytest.fixture(scope="module")
def codec() -> SpectralCodec:
    torch.manual_seed(1)
    codec = SpectralCodec(PRESETS["tiny"].codec).eval().requires_grad_(False)
    for parameter in codec.parameters():  # the network beside the linear path must count in this test
        torch.nn.init.normal_(parameter, std=0.1)
    return codec


def test_sound_in_spans_equals_sound_at_once(codec: SpectralCodec) -> None:
    codes = torch.randint(codec.codebook_size, (2, codec.num_codebooks, 600))
    whole = codec.decode(codes)
    assert whole.std() > 0
    pieces = torch.cat([render_span(codec, codes, t, min(t + 37, 600)) for t in range(0, 600, 37)], 1)
    assert torch.allclose(pieces, whole, atol=1e-5 * float(whole.abs().max()))
    later = render(codec, codes, 100)
    assert torch.allclose(later, whole[:, 100 * codec.hop_length :], atol=1e-5 * float(whole.abs().max()))


def test_the_largest_jump_is_the_999th_permille() -> None:
    prompt = torch.randn(20_000, generator=torch.Generator().manual_seed(0))
    wanted = torch.quantile(prompt.diff().abs(), 0.999)
    assert largest_jump(prompt) == pytest.approx(float(wanted), rel=0.02)
    assert largest_jump(prompt) <= float(wanted)


@pytest.mark.parametrize("level", [0.001, 0.1, 0.9])
def test_any_continuation_starts_without_a_click(level: float) -> None:
    generator = torch.Generator().manual_seed(2)
    prompt = torch.from_numpy(chord(2.0, level=level))
    for _ in range(20):
        decoded = prompt[-320:] + level * torch.randn(320, generator=generator)
        continuation = torch.randn(8_000, generator=generator).cumsum(0) * 0.01 + 0.5
        eased = ease_seam(prompt, decoded, continuation)
        assert eased.shape == continuation.shape
        assert abs(float(eased[0] - prompt[-1])) <= largest_jump(prompt)
        assert torch.equal(eased[SEAM_SAMPLES:], continuation[SEAM_SAMPLES:])


def test_a_continuation_that_fits_is_left_alone() -> None:
    wave = torch.from_numpy(chord(3.0))
    eased = ease_seam(wave[:32_000], wave[31_680:32_000], wave[32_000:])
    assert torch.allclose(eased, wave[32_000:], atol=1e-6)
