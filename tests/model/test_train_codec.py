"""Learning the codec: codebooks that find clusters, depths that cover all levels, a network that restores."""

from __future__ import annotations

import numpy as np
import torch

from model.codec import SpectralCodec
from model.config import PRESETS
from model.quantizer import ResidualVectorQuantizer
from model.training.codebooks import fit_codebooks
from model.training.train_codec import decode_to_depths, draw_depths, principal_components


def clustered(rng: torch.Generator, count: int) -> torch.Tensor:
    centers = 3 * torch.randn(8, 4, generator=torch.Generator().manual_seed(0))
    return centers[torch.randint(8, (count,), generator=rng)] + 0.1 * torch.randn(count, 4, generator=rng)


def test_k_means_finds_the_clusters() -> None:
    quantizer = ResidualVectorQuantizer(2, 8, 4)
    vectors = clustered(torch.Generator().manual_seed(1), 2000)
    fit_codebooks(quantizer, vectors, np.random.default_rng(0), iterations=20)
    left = vectors[None] - quantizer.decode(quantizer.encode(vectors[None]))
    assert float(left.square().mean()) < 0.05 * float(vectors.square().mean())


def test_no_code_is_left_unused() -> None:
    quantizer = ResidualVectorQuantizer(1, 8, 4)
    vectors = clustered(torch.Generator().manual_seed(1), 2000)
    vectors[:1990] = 0.001 * vectors[:1990]  # nearly all of them in one place: most first draws are alike
    fit_codebooks(quantizer, vectors, np.random.default_rng(0), iterations=20)
    assert len(quantizer.encode(vectors[None]).unique()) == 8


def test_codes_are_not_spent_on_outliers() -> None:
    quantizer = ResidualVectorQuantizer(1, 64, 4)
    generator = torch.Generator().manual_seed(1)
    vectors = torch.randn(6400, 4, generator=generator)
    vectors[:40] *= 30
    fit_codebooks(quantizer, vectors, np.random.default_rng(0))
    counts = torch.bincount(quantizer.encode(vectors[None]).flatten(), minlength=64)
    assert int((counts >= 10).sum()) > 54  # of an even share of 100


def test_linear_paths_undo_each_other_where_there_is_sound() -> None:
    codec = SpectralCodec(PRESETS["tiny"].codec)
    width = codec.decoder_linear.out_features
    generator = torch.Generator().manual_seed(2)
    basis = torch.randn(codec.config.latent_dim, width, generator=generator)
    frames = 5 + torch.randn(500, codec.config.latent_dim, generator=generator) @ basis
    principal_components(codec, frames)
    with torch.no_grad():
        back = codec.restore(codec.encoder_linear(frames)[None])[0]  # the network starts as nothing
    torch.testing.assert_close(back, frames, atol=1e-2, rtol=1e-3)


def test_rows_keep_as_many_levels_as_drawn() -> None:
    codec = SpectralCodec(PRESETS["tiny"].codec)
    codes = torch.randint(codec.codebook_size, (2, 12, 9))
    latents = decode_to_depths(codec, codes, torch.tensor([3, 12]))
    torch.testing.assert_close(latents[0], codec.quantizer.decode(codes[:1, :3])[0])
    torch.testing.assert_close(latents[1], codec.quantizer.decode(codes[1:])[0])


def test_depths_cover_all_levels_and_half_the_rows_are_full() -> None:
    depths = torch.stack([draw_depths(np.random.default_rng(i), 8, 12) for i in range(200)])
    assert (depths[:, 4:] == 12).all()
    assert set(depths[:, :4].flatten().tolist()) == set(range(1, 12))
