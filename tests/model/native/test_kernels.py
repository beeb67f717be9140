"""The kernels against plain arithmetic, and a row against itself in company."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from model.config import PRESETS, StageConfig
from model.native.kernels import NativeLinear, draw, round_to_int8
from model.native.library import library
from model.sampling import Sampling, noise_key, sample_by_tensors, uniform_noise
from model.transformer import KVCache, Transformer

pytestmark = pytest.mark.skipif(library() is None, reason="this machine has no kernels")

TINY = dataclasses.replace(PRESETS["tiny"].coarse, n_layer=2)  # heads of 8 values, two per key and value
STARTER = dataclasses.replace(PRESETS["starter"].coarse, n_layer=2)
GROUPED = dataclasses.replace(STARTER, n_head=4, n_kv_head=2, n_embd=256, n_ff=1024)  # heads of 64
LENGTH = 90


def numbers(*shape: int, seed: int = 1) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def build(config: StageConfig, bits: int = 16) -> tuple[Transformer, Transformer]:
    """A transformer and its twin on the kernels; weights that int8 holds exactly."""
    torch.manual_seed(0)
    plain, native = (Transformer(config, LENGTH).eval().requires_grad_(False) for _ in range(2))
    for parameter in plain.parameters():
        if parameter.ndim == 2:
            integers, scale = round_to_int8(parameter * 8)
            parameter.copy_(integers * scale[:, None])
        else:
            parameter.copy_(1 + 0.1 * torch.randn(parameter.shape))
    native.load_state_dict(plain.state_dict())
    native.prepare(bits)
    assert native.native is not None
    return plain, native


@pytest.mark.parametrize("shape", [(16, 32), (100, 36), (768, 320), (320, 1280)])
@pytest.mark.parametrize(("bits", "tolerance"), [(16, 3e-4), (8, 0.03)])
def test_a_product_is_a_product_and_rows_do_not_mix(
    shape: tuple[int, int], bits: int, tolerance: float
) -> None:
    integers, scale = round_to_int8(numbers(*shape) * torch.logspace(-2, 1, shape[0])[:, None])
    weight = integers * scale[:, None]
    layer = NativeLinear(weight, bits)
    x = numbers(26, shape[1], seed=2) * torch.logspace(-3, 3, 26)[:, None]
    x[4] = 0
    whole = layer(x)
    exact = x.double() @ weight.double().t()
    assert bool((whole[4] == 0).all())
    error = (whole - exact).norm(dim=1) / exact.norm(dim=1).clamp_min(1e-9)
    assert float(error.max()) < tolerance
    for count in range(1, 26):
        assert torch.equal(layer(x[:count]), whole[:count])
        assert layer(x[:count, None]).shape == (count, 1, shape[0])


@pytest.mark.parametrize("outputs", [64, 100])
def test_a_bias_is_added(outputs: int) -> None:
    weight, bias, x = numbers(outputs, 36), numbers(outputs, seed=2), numbers(5, 36, seed=3)
    torch.testing.assert_close(
        NativeLinear(weight, bias=bias)(x), NativeLinear(weight)(x) + bias, atol=1e-5, rtol=0
    )


def test_the_largest_activations_do_not_overflow() -> None:
    weight = torch.full((32, 4096), 127.0)
    out = NativeLinear(weight)(torch.full((1, 4096), 1e3))
    torch.testing.assert_close(out, torch.full((1, 32), 127e3 * 4096), rtol=2e-3, atol=0)


@pytest.mark.parametrize("config", [TINY, STARTER, GROUPED])
@pytest.mark.parametrize("causal", [True, False])
def test_the_layers_are_those_of_the_plain_transformer(config: StageConfig, causal: bool) -> None:
    plain, native = build(config)
    x = numbers(2, 75, config.n_embd)
    expected, out = plain(x, causal=causal), native(x, causal=causal)
    assert float((out - expected).norm() / expected.norm()) < 2e-3
    assert torch.equal(native(x, causal=causal, first=40), out[:, 40:])


@pytest.mark.parametrize("config", [TINY, STARTER, GROUPED])
@pytest.mark.parametrize("length", [1, 33, 75])
def test_eight_bits_are_near(config: StageConfig, length: int) -> None:
    plain, native = build(config, bits=8)
    x = numbers(1, length, config.n_embd)
    expected, out = plain(x, causal=False), native(x, causal=False)
    error = float((out - expected).norm() / expected.norm())
    assert 1e-3 < error < 0.1  # weights this large make a network sensitive
    assert torch.equal(native(x, causal=False, first=length // 2), out[:, length // 2 :])


@pytest.mark.parametrize("config", [TINY, STARTER, GROUPED])
def test_forward_prefill_and_steps_give_the_same_bits(config: StageConfig) -> None:
    _, native = build(config)
    x = numbers(3, 70, config.n_embd)
    whole = native(x, causal=True)
    cache = native.new_cache(4, LENGTH)
    cache.keys.fill_(7)
    cache.values.fill_(7)  # of whoever had the slot before
    slots, positions = torch.tensor([3, 0, 2]), torch.tensor([5, 37, 0])
    for row, (slot, known) in enumerate(zip(slots.tolist(), positions.tolist(), strict=True)):
        if known:
            assert torch.equal(
                native.prefill(x[row : row + 1, :known], cache, slot, first=known - 1)[0, 0],
                whole[row, known - 1],
            )
    rows = torch.arange(3)
    for _ in range(30):
        out = native.step(x[rows, positions], cache, positions, slots=slots)
        assert torch.equal(out, whole[rows, positions])
        positions += 1


def test_a_moved_slot_goes_on_as_it_was() -> None:
    _, native = build(STARTER)
    x = numbers(1, 40, STARTER.n_embd)
    cache = native.new_cache(3, LENGTH)
    native.prefill(x[:, :37], cache, 2)
    cache.move(2, 0, 37)
    for position in range(37, 40):
        out = native.step(x[:, position], cache, torch.tensor([position]))
        assert torch.equal(out, native(x, causal=True)[:, position])


def test_the_cache_of_the_kernels_is_half_as_large() -> None:
    plain, native = build(TINY)
    assert 2 * native.new_cache(2).num_bytes == plain.new_cache(2).num_bytes
    assert isinstance(plain.new_cache(2), KVCache)


@given(
    st.integers(0, 1000), st.sampled_from([6, 16, 50, 1024]), st.sampled_from([None, 1, 5, 40]),
    st.sampled_from([None, 0.05, 0.5, 0.95, 1.0]), st.sampled_from([0.0, 0.3, 1.0, (3.0, 0.0, 1.0, 0.6)]),
)  # fmt: skip
@settings(max_examples=60, deadline=None)
def test_draws_are_those_of_the_tensors(
    seed: int, vocab: int, top_k: int | None, top_p: float | None, temperature: float | tuple[float, ...]
) -> None:
    logits = 2 * numbers(3, 4, vocab, seed=seed)
    sampling = Sampling.of([seed, 7, 2**40], 1, temperature=temperature, top_k=top_k, top_p=top_p)
    steps = torch.tensor([0, seed, 99])
    expected = sample_by_tensors(logits, uniform_noise(sampling.keys, steps, 4), sampling)
    assert torch.equal(draw(logits, sampling, steps, None), expected)


def test_ties_at_the_limit_are_all_allowed() -> None:
    logits = torch.tensor([2.0, 1.0, 1.0, 1.0, 0.0]).expand(1, 1, 5)
    keys = noise_key(torch.tensor([0]), 0)
    sampling = Sampling(torch.ones(1, 1), keys, torch.tensor([2]))
    noise = torch.linspace(0, 1 - 2**-32, 60, dtype=torch.float64)
    assert {int(draw(logits, sampling, None, at[None, None])) for at in noise} == {0, 1, 2, 3}
