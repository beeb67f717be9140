"""Drawing ids: the right distribution, and noise that belongs to the row."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from model.sampling import Sampling, noise_key, sample, sample_with, uniform_noise


def logits_of(rows: int, codebooks: int, vocab: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(rows, codebooks, vocab, generator=torch.Generator().manual_seed(seed)) * 2


def chi_square(observed: torch.Tensor, expected: torch.Tensor) -> float:
    return float(((observed - expected) ** 2 / expected).sum())


def test_ids_are_distributed_as_the_softmax_says() -> None:
    logits = torch.tensor([2.0, 1.0, 0.0, -1.0, 0.5, -2.0])
    draws = 40_000
    sampling = Sampling.of([7] * draws, 0, temperature=0.7)
    ids = sample(logits.expand(draws, 1, 6), sampling, torch.arange(draws))[:, 0]
    observed = torch.bincount(ids, minlength=6).double()
    expected = torch.softmax(logits.double() / 0.7, 0) * draws
    assert chi_square(observed, expected) < 20.5  # 0.1 % of right samplers fail this, 5 degrees of freedom
    assert chi_square(observed, torch.softmax(logits.double(), 0) * draws) > 1_000


def test_noise_is_uniform_over_seeds_steps_and_codebooks() -> None:
    seeds = noise_key(torch.arange(500), 1)
    by_seed = uniform_noise(seeds, torch.zeros(500, dtype=torch.int64), 4)
    by_step = uniform_noise(seeds[:1].expand(500), torch.arange(500), 4)
    for noise in (by_seed, by_step):
        assert float(noise.min()) >= 0 and float(noise.max()) < 1
        counts = torch.bincount((noise.flatten() * 20).long(), minlength=20).double()
        assert chi_square(counts, torch.full((20,), 100.0, dtype=torch.float64)) < 43.8  # 0.1 %, 19 degrees
        correlations = np.corrcoef(noise.numpy().T) - np.eye(4)
        assert np.abs(correlations).max() < 0.16
        neighbours = np.corrcoef(noise[:-1, 0].numpy(), noise[1:, 0].numpy())[0, 1]
        assert abs(neighbours) < 0.16


def test_noise_differs_between_seeds_stages_steps_and_codebooks() -> None:
    keys = {
        int(noise_key(torch.tensor([seed]), stage))
        for seed in (0, 1, 2**32, 2**62, -1)
        for stage in (0, 1, 2)
    }
    assert len(keys) == 15
    noise = uniform_noise(noise_key(torch.tensor([0, 1]), 0), torch.tensor([3, 3]), 4)
    assert noise.unique().numel() == 8


@given(st.integers(0, 2**31), st.integers(0, 10_000), st.integers(0, 15))
@settings(max_examples=30, deadline=None)
def test_a_rows_draw_does_not_depend_on_the_batch(seed: int, step: int, place: int) -> None:
    logits = logits_of(16, 4, 64, seed % 1000)
    seeds = list(range(16))
    seeds[place] = seed
    steps = torch.arange(100, 116)
    steps[place] = step
    together = sample(logits, Sampling.of(seeds, 1, temperature=0.9), steps)
    alone = sample(logits[place : place + 1], Sampling.of([seed], 1, temperature=0.9), torch.tensor([step]))
    assert torch.equal(together[place : place + 1], alone)


@given(st.integers(1, 20), st.floats(0.05, 1.0), st.integers(0, 100))
@settings(max_examples=15, deadline=None)
def test_nothing_outside_top_k_and_top_p_is_ever_drawn(top_k: int, top_p: float, seed: int) -> None:
    logits = logits_of(1, 1, 20, seed)
    sampling = Sampling.of([0], 0, temperature=1.0, top_k=top_k, top_p=top_p)
    noise = torch.linspace(0, 1 - 2**-32, 51, dtype=torch.float64)
    drawn = {int(sample_with(logits, at[None, None], sampling)) for at in noise}
    order = logits.flatten().argsort(descending=True)[:top_k]
    weights = torch.softmax(logits.flatten(), 0)[order]
    before = (weights.cumsum(0) - weights) / weights.sum()
    allowed = set(order[: max(1, int((before < top_p).sum()))].tolist())
    near = set(
        order[: max(1, int((before < top_p + 1e-6).sum()))].tolist()
    )  # the limit itself may round either way
    assert drawn <= near
    assert int(order[0]) in drawn
    likely = {i for i in allowed if float(torch.softmax(logits.flatten(), 0)[i]) > 0.02}
    assert likely <= drawn


def test_rows_without_a_limit_are_untouched_by_their_neighbours_limits() -> None:
    logits = logits_of(2, 3, 50)
    free = Sampling.of([4, 5], 0, temperature=1.2)
    mixed = Sampling(free.temperature, free.keys, torch.tensor([0, 1]), torch.tensor([1.0, 1.0]))
    for step in range(50):
        steps = torch.tensor([step, step])
        a, b = sample(logits, free, steps), sample(logits, mixed, steps)
        assert torch.equal(a[0], b[0])
        assert torch.equal(b[1], logits[1].argmax(-1))


def test_temperature_zero_takes_the_likeliest_and_each_row_has_its_own() -> None:
    logits = logits_of(2, 3, 50)
    sampling = Sampling(torch.tensor([[0.0], [50.0]]), noise_key(torch.tensor([1, 2]), 0))
    seen = [sample(logits, sampling, torch.tensor([step, step])) for step in range(40)]
    assert all(torch.equal(ids[0], logits[0].argmax(-1)) for ids in seen)
    assert torch.stack([ids[1] for ids in seen]).unique().numel() > 20


def test_each_codebook_can_have_its_own_temperature() -> None:
    logits = logits_of(2, 3, 50)
    each = Sampling.of([4, 5], 0, temperature=(0.0, 0.7, 1.4))
    for step in range(40):
        steps = torch.tensor([step, step])
        ids = sample(logits, each, steps)
        assert torch.equal(ids[:, 0], logits[:, 0].argmax(-1))
        for codebook, temperature in ((1, 0.7), (2, 1.4)):
            alone = sample(logits, Sampling.of([4, 5], 0, temperature=temperature), steps)
            assert torch.equal(ids[:, codebook], alone[:, codebook])


@pytest.mark.parametrize("value", [0.0, 1 - 2**-32])
def test_the_extremes_of_noise_stay_within_the_ids_that_have_weight(value: float) -> None:
    logits = torch.full((1, 1, 8), -1e9)
    logits[0, 0, 3:5] = 0.0
    ids = sample_with(
        logits, torch.full((1, 1), value, dtype=torch.float64), Sampling.of([0], 0, temperature=1.0)
    )
    assert int(ids) == (3 if value == 0 else 4)


def test_draws_stay_what_they_were() -> None:
    ids = sample(
        logits_of(2, 4, 1024), Sampling.of([0, 2**40 + 1], 1, temperature=0.8), torch.tensor([0, 77])
    )
    assert ids.tolist() == GOLDEN


GOLDEN = [[337, 448, 960, 69], [367, 886, 958, 827]]
