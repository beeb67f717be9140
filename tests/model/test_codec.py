"""The codec's contract: rates, lengths, depths, locality, and the transform under it."""

from __future__ import annotations

import pytest
import torch

from model.codec import SpectralCodec, compand, expand
from model.config import PRESETS
from model.mdct import MDCT


@pytest.fixture(scope="module")
def codec() -> SpectralCodec:
    torch.manual_seed(0)
    codec = SpectralCodec(PRESETS["tiny"].codec).eval()
    for parameter in codec.parameters():  # the networks start at zero: give them a say
        torch.nn.init.normal_(parameter, std=0.1)
    return codec


def noise(*shape: int) -> torch.Tensor:
    return 0.1 * torch.randn(*shape, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("length", [320, 3200, 3333])
def test_mdct_reconstructs_all_but_the_outer_half_hops(length: int) -> None:
    mdct, waveform = MDCT(320), noise(2, length)
    cosine, sine = mdct(waveform)
    back = mdct.inverse(cosine)
    assert cosine.shape == sine.shape == (2, -(-length // 320), 320)
    assert back.shape == (2, cosine.shape[1] * 320)
    stop = cosine.shape[1] * 320 - 160
    padded = torch.nn.functional.pad(waveform, (0, back.shape[1] - length))
    torch.testing.assert_close(back[:, 160:stop], padded[:, 160:stop], atol=1e-5, rtol=0)


def test_mdct_and_its_twin_measure_a_tone_whatever_its_phase() -> None:
    time = torch.arange(3200) / 16_000
    energies = []
    for phase in (0.0, 0.7, 1.5):
        cosine, sine = MDCT(320)(torch.sin(2 * torch.pi * 1000 * time + phase)[None])
        energies.append(float((cosine.square() + sine.square())[0, 3:7].sum()))
    assert max(energies) / min(energies) < 1.02


def test_companding_is_undone() -> None:
    spectrum = torch.linspace(-3, 3, 101)
    torch.testing.assert_close(expand(compand(spectrum)), spectrum, atol=1e-3, rtol=1e-3)


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


def test_a_frame_depends_on_its_context_and_nothing_else(codec: SpectralCodec) -> None:
    codes = codec.encode(noise(1, 320 * 40))
    changed = codes.clone()
    changed[:, :, 20] = (changed[:, :, 20] + 1) % codec.codebook_size
    difference = (codec.decode(codes) - codec.decode(changed)).abs().view(40, 320).amax(1)
    touched = (difference > 1e-7).nonzero().flatten()
    assert touched.min() >= 20 - codec.context_frames
    assert touched.max() <= 20 + codec.context_frames
    assert 20 in touched


def test_rows_of_a_batch_do_not_mix(codec: SpectralCodec) -> None:
    waveform = noise(3, 4000)
    together = codec.encode(waveform)
    alone = torch.cat([codec.encode(row[None]) for row in waveform])
    assert torch.equal(together, alone)
