"""Decoder-only transformer over embeddings: one module for causal, cached and bidirectional use.

Decisions held here: pre-norm with LayerNorm, rotary positions, GELU MLP, no biases, grouped key/value heads
(`n_kv_head`), keys and values in a preallocated cache. Residuals, norms and rotation are float32; matrix products take
what autocast or `model.linear` gives them. A row of a cached step has the same bits whatever else shares the step:
attention reads a length rounded up to LENGTH_STEP, over which CPU kernels add a row's zeros without effect.
Once prepared for a CPU that the kernels of `model.native` know, all of it runs there: one call for all layers.

Knows embeddings [.., C], not tokens.
"""

from __future__ import annotations

import math
from functools import cached_property

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from model.config import StageConfig
from model.linear import replace_linears
from model.native.kernels import NativeLinear, NativeTransformer

LENGTH_STEP = 16


class KVCache:
    """Keys and values of `num_slots` sequences: `keys`, `values` [n_layer, slots, n_kv_head, max_length, head_dim]."""

    def __init__(self, keys: Tensor, values: Tensor) -> None:
        self.keys, self.values = keys, values
        self.num_slots, self.max_length = keys.shape[1], keys.shape[3]

    @cached_property
    def bias(self) -> Tensor:
        """Row p: what a query at position p adds to its scores, [max_length, max_length]."""
        keys = self.keys
        later = torch.ones(self.max_length, self.max_length, dtype=torch.bool, device=keys.device).triu(1)
        return torch.zeros(later.shape, dtype=keys.dtype, device=keys.device).masked_fill(later, -math.inf)

    @classmethod
    def allocate(
        cls,
        config: StageConfig,
        num_slots: int,
        max_length: int,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str = "cpu",
    ) -> KVCache:
        """Zeros for `num_slots` sequences of up to `max_length` positions (rounded up to LENGTH_STEP).

        bf16 halves the bytes on CUDA; on a CPU attention over bf16 is several times slower than over float32.
        """
        length = -(-max_length // LENGTH_STEP) * LENGTH_STEP
        shape = (config.n_layer, num_slots, config.n_kv_head, length, config.n_embd // config.n_head)
        return cls(
            torch.zeros(shape, dtype=dtype, device=device), torch.zeros(shape, dtype=dtype, device=device)
        )

    def move(self, source: int, destination: int, length: int) -> None:
        """Copy the first `length` positions of one slot over another, to keep the used slots in front."""
        length = -(-length // LENGTH_STEP) * LENGTH_STEP  # the kernels keep keys in blocks of so many
        for kept in (self.keys, self.values):
            kept[:, destination, :, :length] = kept[:, source, :, :length]

    @property
    def num_bytes(self) -> int:
        return 2 * self.keys.numel() * self.keys.element_size()


class Block(nn.Module):
    """One layer: attention and MLP, each around a residual."""

    def __init__(self, config: StageConfig) -> None:
        super().__init__()
        self.n_head, self.n_kv_head = config.n_head, config.n_kv_head
        self.head_dim = config.n_embd // config.n_head
        self.attention_norm = nn.LayerNorm(config.n_embd, bias=False)
        self.qkv = nn.Linear(config.n_embd, (self.n_head + 2 * self.n_kv_head) * self.head_dim, bias=False)
        self.projection = nn.Linear(config.n_embd, config.n_embd, bias=False)
        self.mlp_norm = nn.LayerNorm(config.n_embd, bias=False)
        self.up = nn.Linear(config.n_embd, config.n_ff, bias=False)
        self.down = nn.Linear(config.n_ff, config.n_embd, bias=False)
        self.dropout = nn.Dropout(config.dropout)

    def heads(self, x: Tensor, cos: Tensor, sin: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """x [B, T, C] -> rotated float32 queries [B, T, H, D] and keys [B, T, H_kv, D], values [B, T, H_kv, D]."""
        mixed = self.qkv(self.attention_norm(x)).unflatten(-1, (-1, self.head_dim))  # (B, T, H + 2 H_kv, D)
        turned, values = mixed.split([self.n_head + self.n_kv_head, self.n_kv_head], dim=2)
        turned = turned * cos + turned.roll(self.head_dim // 2, -1) * sin
        queries, keys = turned.split([self.n_head, self.n_kv_head], dim=2)
        return queries, keys, values

    def finish(self, x: Tensor, attended: Tensor) -> Tensor:
        """The residual of x [B, T, C] with attention's output [B, T, C], then the MLP around another."""
        x = x + self.dropout(self.projection(attended))
        hidden = F.gelu(self.up(self.mlp_norm(x)), approximate="tanh")
        out: Tensor = x + self.dropout(self.down(hidden))
        return out

    def forward(
        self, x: Tensor, cos: Tensor, sin: Tensor, mask: Tensor | None, causal: bool
    ) -> tuple[Tensor, Tensor, Tensor]:
        """The layer over whole sequences x [B, T, C]; also its keys and values [B, H_kv, T, D]."""
        queries, keys, values = (part.transpose(1, 2) for part in self.heads(x, cos, sin))
        queries, keys = queries.to(values.dtype), keys.to(values.dtype)
        attended = F.scaled_dot_product_attention(
            queries, keys, values, attn_mask=mask, is_causal=causal, enable_gqa=self.n_head != self.n_kv_head
        )
        return self.finish(x, attended.transpose(1, 2).flatten(2)), keys, values

    def step(
        self,
        x: Tensor,
        rotary: tuple[Tensor, Tensor],
        bias: Tensor,
        cache: tuple[Tensor, Tensor],
        at: tuple[Tensor, Tensor],
        read: Tensor | slice,
    ) -> Tensor:
        """The layer for one position per row, x [B, 1, C].

        cache: this layer's keys and values, [slots, H_kv, L, D]; `at`: (slots [B], positions [B]) to write;
        `read`: the rows' slots; bias [B, 1, 1, length] over the part of the cache that is read.
        """
        new_queries, new_keys, new_values = self.heads(x, *rotary)
        (keys, values), (slots, positions) = cache, at
        keys[slots, :, positions] = new_keys[:, 0].to(keys.dtype)
        values[slots, :, positions] = new_values[:, 0].to(values.dtype)
        length = bias.shape[-1]
        attended = F.scaled_dot_product_attention(
            new_queries.view(x.shape[0], self.n_kv_head, -1, self.head_dim).to(
                keys.dtype
            ),  # (B, H_kv, H / H_kv, D)
            keys[read, :, :length],
            values[read, :, :length],
            attn_mask=bias,
        )
        return self.finish(x, attended.reshape(x.shape))


class Transformer(nn.Module):
    """Layers and a final norm. `max_length`: the most positions a sequence may have."""

    cos: Tensor
    sin: Tensor

    def __init__(self, config: StageConfig, max_length: int) -> None:
        super().__init__()
        self.config, self.max_length = config, max_length
        self.native: NativeTransformer | None = None
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.n_layer))
        self.norm = nn.LayerNorm(config.n_embd, bias=False)
        self.dropout = nn.Dropout(config.dropout)
        cos, sin = rotary_tables(max_length, config.n_embd // config.n_head)
        self.register_buffer("cos", cos, persistent=False)  # (max_length, 1, D)
        self.register_buffer("sin", sin, persistent=False)
        for name, parameter in self.named_parameters():
            if parameter.ndim == 2:
                into_residual = name.endswith(("projection.weight", "down.weight"))
                nn.init.normal_(
                    parameter, std=0.02 / math.sqrt(2 * config.n_layer) if into_residual else 0.02
                )

    def prepare(self, bits: int = 16, *, kernels: bool = True) -> None:
        """Turn into the form for inference on the device it is on (see model.linear). Not undone."""
        replace_linears(self, bits, kernels=kernels)
        if isinstance(self.blocks[0].qkv, NativeLinear):
            self.native = NativeTransformer(self)

    def new_cache(self, num_slots: int, max_length: int | None = None) -> KVCache:
        """A cache for `num_slots` sequences of up to `max_length` positions (default: the most there may be)."""
        dtype = torch.float32 if self.native is None else torch.float16
        length = self.max_length if max_length is None else max_length
        return KVCache.allocate(self.config, num_slots, length, dtype=dtype, device=self.cos.device)

    def forward(self, x: Tensor, *, causal: bool, lengths: Tensor | None = None, first: int = 0) -> Tensor:
        """Hidden states [B, T - first, C], from position `first` on, of embeddings x [B, T, C], uncached.

        `lengths` [B]: rows are right-padded and nothing attends beyond them; a causal row needs none.
        """
        length = x.shape[1]
        if self.native is not None:
            assert lengths is None and length <= self.max_length
            return torch.stack([self.native.forward(row, causal=causal, first=first) for row in x])
        mask = None
        if lengths is not None and not causal:
            mask = (torch.arange(length, device=x.device) < lengths[:, None])[:, None, None]  # (B, 1, 1, T)
        x = self.dropout(x)
        for block in self.blocks:
            x, _, _ = block(x, *self._rotary(length), mask, causal)
        return self.norm(x[:, first:])  # type: ignore[no-any-return]

    def prefill(self, x: Tensor, cache: KVCache, slot: int, first: int = 0) -> Tensor:
        """Hidden states [1, T - first, C], from position `first` on, of x [1, T, C] from position 0 on; keys and values
        of all of it are kept in `slot`.

        One sequence per call: a prompt is bound by arithmetic, so a batch would gain nothing, and would make a
        row's bits depend on the others.
        """
        length = x.shape[1]
        assert x.shape[0] == 1 and cache.max_length >= length
        if self.native is not None:
            return self.native.prefill(x[0], cache, slot, first)[None]
        for layer, block in enumerate(self.blocks):
            x, keys, values = block(x, *self._rotary(length), None, True)
            cache.keys[layer, slot, :, :length] = keys[0]
            cache.values[layer, slot, :, :length] = values[0]
        return self.norm(x[:, first:])  # type: ignore[no-any-return]

    def step(
        self,
        x: Tensor,
        cache: KVCache,
        positions: Tensor,
        *,
        slots: Tensor | None = None,
        length: int | None = None,
    ) -> Tensor:
        """Hidden states [B, C] of one more embedding per row, x [B, C], at `positions` [B], any mixture of them.

        Row b continues the sequence in slot b, or in `slots[b]`: then its part of the cache is copied first, which
        costs more than attention itself. `length` > every position bounds what is read (default: all there is, as a
        captured graph needs).
        """
        if self.native is not None:
            return self.native.step(x, cache, positions, slots)
        reach = cache.max_length if length is None else -(-length // LENGTH_STEP) * LENGTH_STEP
        cos, sin = self.cos[positions][:, None], self.sin[positions][:, None]  # (B, 1, 1, D)
        bias = cache.bias[positions, :reach][:, None, None]  # (B, 1, 1, reach)
        read = slice(0, x.shape[0]) if slots is None else slots
        at = (torch.arange(x.shape[0], device=x.device) if slots is None else slots, positions)
        x = x[:, None]  # (B, 1, C)
        for layer, block in enumerate(self.blocks):
            x = block.step(x, (cos, sin), bias, (cache.keys[layer], cache.values[layer]), at, read)  # type: ignore[operator]
        return self.norm(x)[:, 0]  # type: ignore[no-any-return]

    def _rotary(self, length: int) -> tuple[Tensor, Tensor]:
        assert length <= self.max_length, f"{length} positions, at most {self.max_length}"
        return self.cos[:length], self.sin[:length]


def rotary_tables(max_length: int, head_dim: int) -> tuple[Tensor, Tensor]:
    """Rotary position tables (arXiv 2104.09864), [max_length, 1, head_dim] each.

    A head turns by `x * cos + roll(x, head_dim / 2) * sin`; the sign of the rotation lies in the sine table.
    """
    half = head_dim // 2
    frequencies = 10_000.0 ** (-torch.arange(half, dtype=torch.float64) / half)
    angles = torch.arange(max_length, dtype=torch.float64)[:, None] * frequencies  # (max_length, half)
    cos = angles.cos().repeat(1, 2)
    sin = torch.cat([-angles.sin(), angles.sin()], dim=1)
    return cos.float()[:, None], sin.float()[:, None]
