"""The transformer: the cached ways agree with the plain one, and rows do not see each other."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from model.config import PRESETS, StageConfig
from model.linear import PackedLinear, PaddedLinear, replace_linears
from model.transformer import KVCache, Transformer, rotary_tables

CONFIG = dataclasses.replace(PRESETS["tiny"].coarse, n_layer=2)  # 4 heads on 2 key/value heads
LENGTH = 60


def build(config: StageConfig = CONFIG, seed: int = 0) -> Transformer:
    torch.manual_seed(seed)
    transformer = Transformer(config, LENGTH).eval().requires_grad_(False)
    for parameter in transformer.parameters():
        if parameter.ndim == 2:
            parameter.mul_(8)  # far from the identity a fresh one nearly is
    return transformer


def embeddings(*shape: int, seed: int = 1) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_prefill_equals_forward() -> None:
    transformer, x = build(), embeddings(1, 30, 32)
    cache = KVCache.allocate(CONFIG, 3, LENGTH)
    torch.testing.assert_close(transformer.prefill(x, cache, 1), transformer(x, causal=True))
    assert float(cache.keys[:, 1, :, :30].abs().sum()) > 0
    assert float(cache.keys[:, [0, 2]].abs().sum()) == 0
    assert float(cache.keys[:, 1, :, 30:].abs().sum()) == 0


@pytest.mark.parametrize("gather", [False, True])
def test_steps_at_mixed_positions_equal_forward(gather: bool) -> None:
    transformer, x = build(), embeddings(3, 40, 32)
    whole = transformer(x, causal=True)
    cache = KVCache.allocate(CONFIG, 4, LENGTH)
    slots = torch.tensor([3, 0, 2]) if gather else torch.arange(3)
    positions = torch.tensor([5, 17, 0])
    for row, slot in enumerate(slots.tolist()):
        if positions[row] > 0:
            transformer.prefill(x[row : row + 1, : int(positions[row])], cache, slot)
    for _ in range(20):
        now = x[torch.arange(3), positions]
        out = transformer.step(
            now, cache, positions, slots=slots if gather else None, length=int(positions.max()) + 1
        )
        torch.testing.assert_close(out, whole[torch.arange(3), positions], atol=2e-5, rtol=1e-4)
        positions += 1


def test_a_step_reads_no_further_than_its_position() -> None:
    transformer, x = build(), embeddings(1, 20, 32)
    cache = KVCache.allocate(CONFIG, 1, LENGTH)
    transformer.prefill(x[:, :10], cache, 0)
    position = torch.tensor([10])
    expected = transformer.step(x[:, 10], cache, position)
    cache.keys[:, :, :, 11:] = 1e4
    cache.values[:, :, :, 11:] = 1e4
    torch.testing.assert_close(transformer.step(x[:, 10], cache, position), expected, rtol=0, atol=0)


def test_the_past_does_not_see_the_future() -> None:
    transformer, x = build(), embeddings(2, 30, 32)
    changed = x.clone()
    changed[:, 20:] = embeddings(2, 10, 32, seed=9)
    before, after = transformer(x, causal=True), transformer(changed, causal=True)
    torch.testing.assert_close(before[:, :20], after[:, :20])
    assert float((before[:, 20:] - after[:, 20:]).abs().max()) > 0.1
    both_ways = transformer(x, causal=False), transformer(changed, causal=False)
    assert float((both_ways[0][:, :20] - both_ways[1][:, :20]).abs().max()) > 0.01


def test_padding_is_invisible_both_ways() -> None:
    transformer, x = build(), embeddings(2, 30, 32)
    lengths = torch.tensor([30, 18])
    padded = transformer(x, causal=False, lengths=lengths)
    torch.testing.assert_close(padded[1:, :18], transformer(x[1:, :18], causal=False))
    torch.testing.assert_close(padded[:1], transformer(x[:1], causal=False))


def test_moving_a_slot_takes_its_sequence_along() -> None:
    transformer, x = build(), embeddings(1, 12, 32)
    cache = KVCache.allocate(CONFIG, 3, LENGTH)
    transformer.prefill(x[:, :11], cache, 2)
    cache.move(2, 0, 11)
    out = transformer.step(x[:, 11], cache, torch.tensor([11]), length=12)
    torch.testing.assert_close(out, transformer(x, causal=True)[:, 11], atol=2e-5, rtol=1e-4)


def test_attention_depends_on_distances_only() -> None:
    cos, sin = rotary_tables(50, 8)
    q, k = embeddings(8, seed=2), embeddings(8, seed=3)

    def score(i: int, j: int) -> float:
        turned = [x * cos[p, 0] + x.roll(4) * sin[p, 0] for x, p in ((q, i), (k, j))]
        return float(turned[0] @ turned[1])

    assert score(10, 3) == pytest.approx(score(44, 37), abs=1e-4)
    assert score(10, 3) != pytest.approx(score(10, 4), abs=1e-2)


def test_more_positions_than_the_window_are_refused() -> None:
    with pytest.raises(AssertionError, match="61"):
        build()(embeddings(1, 61, 32), causal=True)


def test_a_row_has_the_same_bits_alone_and_in_a_batch() -> None:
    config = dataclasses.replace(PRESETS["starter"].coarse, n_layer=2)
    torch.manual_seed(0)
    transformer = Transformer(config, 500).eval().requires_grad_(False)
    replace_linears(transformer)
    x, positions = embeddings(16, config.n_embd), torch.tensor([100 + 7 * row for row in range(16)])
    cache = KVCache.allocate(config, 16, 500)
    cache.keys.normal_(generator=torch.Generator().manual_seed(2))
    cache.values.normal_(generator=torch.Generator().manual_seed(3))
    alone = KVCache(cache.keys[:, :1].clone(), cache.values[:, :1].clone())
    for offset in range(12):
        together = transformer.step(x + offset, cache, positions + offset, length=400 + offset)
        single = transformer.step(x[:1] + offset, alone, positions[:1] + offset, length=101 + offset)
        assert torch.equal(together[:1], single)


@pytest.mark.parametrize("kind", [PackedLinear, PaddedLinear])
@pytest.mark.parametrize("shape", [(768, 384), (384, 1536), (1024, 4096)])
def test_inference_layers_do_not_mix_rows(
    kind: type[PackedLinear] | type[PaddedLinear], shape: tuple[int, int]
) -> None:
    if kind is PackedLinear and not PackedLinear.supported():
        pytest.skip("this CPU has no bf16 matrix products")
    weight = embeddings(*shape) / shape[1] ** 0.5
    layer = kind(weight)
    for seed in range(4):
        x = embeddings(16, shape[1], seed=seed)
        whole = layer(x)
        torch.testing.assert_close(whole.float(), x @ weight.t(), atol=0.05, rtol=0.05)
        for rows in (1, 2, 3, 5, 8, 15):
            assert torch.equal(layer(x[:rows]), whole[:rows])
            assert layer(x[:rows, None]).shape == (rows, 1, shape[0])
