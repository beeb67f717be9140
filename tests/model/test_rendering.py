"""Sound made cut by cut, and the seam between a clip and its continuation."""

from __future__ import annotations

import pytest
import torch

from model.codec import SpectralCodec
from model.config import PRESETS
from model.rendering import SEAM_SAMPLES, Cut, cuts_of, ease_seam, largest_jump, render
from model.tokens import Window
from model.training.train_codec import principal_components
from tests.conftest import chord


@pytest.fixture(scope="module")
def codec() -> SpectralCodec:
    """Components of a chord and no codebooks' errors: as many codes as there are frames."""
    torch.manual_seed(1)
    codec = SpectralCodec(PRESETS["tiny"].codec).eval().requires_grad_(False)
    frames = codec.spectrogram(torch.from_numpy(chord(4.0))[None])[0]
    principal_components(codec, frames)
    codec.quantizer.codebooks.zero_()
    codec.quantizer.codebooks[0] = codec.encoder_linear(frames[50:82])
    return codec


def test_cuts_follow_each_other_and_stay_within_what_is_known() -> None:
    fine = [Window(0, 100, 125), Window(25, 125, 175), Window(75, 175, 190)]
    cuts = cuts_of(fine, 190, 100, 14)
    assert cuts == (Cut(86, 100, 111, 125), Cut(97, 111, 161, 175), Cut(147, 161, 190, 190))


def test_sound_in_cuts_goes_on_as_the_sound_before(codec: SpectralCodec) -> None:
    wave = torch.from_numpy(chord(4.0))[None]
    codes, start = codec.encode(wave), 100
    cuts = cuts_of([Window(0, 100, 125), Window(25, 125, 200)], 200, start, codec.context_frames)
    past = wave[:, : start * 320]
    made = render(codec, codes, cuts, past)
    assert made.shape == (1, 100 * 320)
    for cut in cuts:  # no jump where one piece of sound follows another
        at = cut.start * 320
        joined = torch.cat([past, made], 1)[0]
        assert abs(float(joined[at] - joined[at - 1])) <= 2 * largest_jump(made[0])


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
        continuation = torch.randn(8_000, generator=generator).cumsum(0) * 0.01 + 0.5
        eased = ease_seam(prompt, continuation)
        assert eased.shape == continuation.shape
        assert abs(float(eased[0] - prompt[-1])) <= largest_jump(prompt)
        assert torch.equal(eased[SEAM_SAMPLES:], continuation[SEAM_SAMPLES:])


def test_a_continuation_that_fits_is_left_alone() -> None:
    wave = torch.from_numpy(chord(3.0))
    eased = ease_seam(wave[:32_000], wave[32_000:])
    assert torch.allclose(eased, wave[32_000:], atol=1e-6)
