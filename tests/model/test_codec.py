"""The codec's contract: rates, lengths, depths, locality, and the transform under it."""

from __future__ import annotations

import pytest
import torch

from model.codec import LOOK_AHEAD, SpectralCodec
from model.config import PRESETS


@pytest.fixture(scope="module")
def codec() -> SpectralCodec:
    torch.manual_seed(0)
    codec = SpectralCodec(PRESETS["tiny"].codec).eval().requires_grad_(False)
    for parameter in codec.parameters():  # the networks start at zero: give them a say
        torch.nn.init.normal_(parameter, std=0.1)
    return codec


def noise(*shape: int) -> torch.Tensor:
    return 0.1 * torch.randn(*shape, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("length", [1, 319, 320, 321, 5000])
def test_one_frame_per_hop_begun(codec: SpectralCodec, length: int) -> None:
    codes = codec.encode(noise(2, length))
    assert codes.shape == (2, 12, -(-length // 320))
    assert codes.dtype == torch.int64
    assert int(codes.min()) >= 0
    assert int(codes.max()) < codec.codebook_size
    assert codec.decode(codes).shape == (2, codes.shape[2] * 320)


def test_every_level_brings_the_latents_closer(codec: SpectralCodec) -> None:
    generator = torch.Generator().manual_seed(0)
    latents = torch.randn(1, 200, 16, generator=generator)
    quantizer = type(codec.quantizer)(6, 64, 16)
    residual = latents.flatten(0, 1)
    for level in range(6):  # codebooks drawn from what is left
        quantizer.codebooks[level] = residual[torch.randperm(200, generator=generator)[:64]] * 0.9
        nearest = torch.cdist(residual, quantizer.codebooks[level]).argmin(1)
        residual = residual - quantizer.codebooks[level][nearest]
    codes = quantizer.encode(latents)
    errors = [float((quantizer.decode(codes[:, :depth]) - latents).square().mean()) for depth in range(1, 7)]
    assert errors == sorted(errors, reverse=True)
    torch.testing.assert_close(latents - quantizer.decode(codes), residual[None], atol=1e-5, rtol=0)


def test_fewer_levels_can_be_decoded(codec: SpectralCodec) -> None:
    codes = codec.encode(noise(1, 3200))
    outputs = [codec.decode(codes[:, :depth]) for depth in (1, 4, 12)]
    assert all(output.shape == (1, 3200) and bool(output.isfinite().all()) for output in outputs)
    assert not torch.equal(outputs[0], outputs[2])


def test_restored_magnitudes_depend_on_their_context_and_nothing_else(codec: SpectralCodec) -> None:
    codes = codec.encode(noise(1, 320 * 40))
    changed = codes.clone()
    changed[:, :, 20] = (changed[:, :, 20] + 1) % codec.codebook_size
    before, after = (codec.restore(codec.quantizer.decode(each))[0] for each in (codes, changed))
    touched = ((before - after).abs().amax(1) > 1e-6).nonzero().flatten()
    reach = codec.context_frames - LOOK_AHEAD
    assert (int(touched.min()), int(touched.max())) == (20 - reach, 20 + reach)


@pytest.mark.parametrize("past", [100, 5000])
def test_a_stretch_is_as_long_as_asked_and_needs_no_more_than_its_context(
    codec: SpectralCodec, past: int
) -> None:
    codes = codec.encode(noise(1, 320 * 80))
    before, reach = noise(1, past), codec.context_frames
    made = codec.decode(codes, 30, 40, before)
    assert made.shape == (1, 10 * 320)
    near = codec.decode(codes[:, :, 30 - reach : 40 + reach], reach, reach + 10, before)
    torch.testing.assert_close(near, made, atol=1e-4 * float(made.abs().max()), rtol=0)


def test_rows_of_a_batch_do_not_mix(codec: SpectralCodec) -> None:
    waveform = noise(3, 4000)
    together = codec.encode(waveform)
    alone = torch.cat([codec.encode(row[None]) for row in waveform])
    assert torch.equal(together, alone)
