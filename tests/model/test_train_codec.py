"""Learning the codec: codebooks that follow, losses that know better from worse, crops that teach something."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from model.quantizer import ResidualVectorQuantizer
from model.training.codebooks import CodebookLearner
from model.training.losses import MEL_BANDS, EnvelopeLoss, SpectralLoss
from model.training.train_codec import draw_depths


def speech_like(seconds: float = 1.28) -> torch.Tensor:
    """A row of buzz with moving loudness, [1, N]."""
    time = torch.arange(round(seconds * 16_000)) / 16_000
    buzz = torch.stack([torch.sin(2 * torch.pi * 120 * k * time) / k for k in range(1, 30)]).sum(0)
    return (0.1 * buzz * (1 + torch.sin(2 * torch.pi * 4 * time)))[None]


def clustered(rng: torch.Generator, count: int) -> torch.Tensor:
    centers = 3 * torch.randn(8, 4, generator=torch.Generator().manual_seed(0))
    return centers[torch.randint(8, (count,), generator=rng)] + 0.1 * torch.randn(count, 4, generator=rng)


def test_k_means_finds_the_clusters() -> None:
    quantizer = ResidualVectorQuantizer(2, 8, 4)
    vectors = clustered(torch.Generator().manual_seed(1), 2000)
    CodebookLearner(quantizer).fit(vectors, np.random.default_rng(0), iterations=20)
    left = vectors[None] - quantizer.decode(quantizer.encode(vectors[None]))
    assert float(left.square().mean()) < 0.05 * float(vectors.square().mean())


def test_codebooks_follow_moving_latents_and_revive_dead_codes() -> None:
    rng, generator = np.random.default_rng(0), torch.Generator().manual_seed(1)
    quantizer = ResidualVectorQuantizer(1, 8, 4)
    quantizer.codebooks += 50.0  # far from every latent: one code wins, seven are dead
    learner = CodebookLearner(quantizer, pace=0.1)
    for _ in range(150):
        learner(clustered(generator, 256)[None], torch.tensor([1]), rng)
    vectors = clustered(generator, 2000)[None]
    codes = quantizer.encode(vectors)
    assert len(codes.unique()) == 8
    assert float((vectors - quantizer.decode(codes)).square().mean()) < 0.3 * float(vectors.square().mean())


def test_quantizer_dropout_keeps_the_first_levels_and_passes_gradients_through() -> None:
    quantizer = ResidualVectorQuantizer(4, 16, 4)
    learner = CodebookLearner(quantizer).eval()
    latents = torch.randn(2, 10, 4, generator=torch.Generator().manual_seed(2)).requires_grad_()
    quantized = learner(latents, torch.tensor([2, 4]), np.random.default_rng(0))
    torch.testing.assert_close(quantized.latents[0], quantizer.decode(quantized.codes[:, :2])[0])
    torch.testing.assert_close(quantized.latents[1], quantizer.decode(quantized.codes)[1])
    quantized.latents.sum().backward()
    assert torch.equal(latents.grad, torch.ones_like(latents))


def test_depths_cover_all_levels_and_half_the_rows_are_full() -> None:
    depths = torch.stack([draw_depths(np.random.default_rng(i), 8, 12) for i in range(200)])
    assert (depths[:, 4:] == 12).all()
    assert set(depths[:, :4].flatten().tolist()) == set(range(1, 12))


@pytest.mark.parametrize("size", list(MEL_BANDS))
def test_spectral_distances_grow_with_the_damage(size: int) -> None:
    loss, clean = SpectralLoss(), speech_like()
    noise = torch.randn(clean.shape, generator=torch.Generator().manual_seed(3))
    same, little, much = (loss(clean + level * noise, clean, size) for level in (0.0, 0.002, 0.02))
    for part in range(2):
        assert float(same[part]) < 1e-6 < float(little[part]) < float(much[part])


def test_phase_counts_in_the_complex_part_only() -> None:
    loss, clean = SpectralLoss(), speech_like()
    complex_distance, mel_distance = loss(-clean, clean, 512)
    assert float(mel_distance) < 1e-5 < 1e-3 < float(complex_distance)


def test_envelope_distance_forgives_level_but_not_blur() -> None:
    loss, clean = EnvelopeLoss(), speech_like()
    steady = clean.abs().mean() * torch.sign(torch.sin(torch.arange(clean.shape[1]) * 0.047))[None]
    assert float(loss(0.5 * clean, clean)) < 0.01 < 0.3 < float(loss(steady, clean))
