"""The kernels as PyTorch sees them: a linear layer, a whole transformer, draws, and steps of a stage.

Weights are int8 with a scale per output, as bundles store them, so that a bundle's weights lose nothing. Activations
are float32 outside a product and integers inside, keys and values fp16 (int8 within a window of the fine stage). A
row's bits do not depend on what else is computed with it, nor on whether it came by `prefill`, `forward` or `step`.
Each class keeps the tensors alive whose addresses it hands over. Knows no engine.
"""

from __future__ import annotations

import ctypes
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from model import pulse
from model.native import library as c
from model.native.library import library

if TYPE_CHECKING:
    from model.sampling import Sampling
    from model.stages import AutoregressiveStage
    from model.transformer import KVCache, Transformer

OUTPUT_BLOCK, INPUT_STEP = 32, 64  # as in native.h
LANES = BLOCK = 16  # positions of a block of keys


class NativeLinear(nn.Module):
    """An int8 matrix [out, in], packed for the kernels; float32 rows, rounded to `bits` (16 or 8) bits inside.

    8 bits are twice as fast from about ten rows on. In the fine stage, attention's products included, they move the
    distribution of a draw by some 4e-6 nats, bf16 by 1e-6."""

    packed: Tensor
    scale: Tensor
    sums: Tensor
    bias: Tensor | None

    def __init__(self, weight: Tensor, bits: int = 16, bias: Tensor | None = None) -> None:
        super().__init__()
        assert bits in (8, 16)
        self.register_buffer("bias", None if bias is None else bias.detach().float(), persistent=False)
        integers, scale = round_to_int8(weight.detach().float())
        outputs, inputs = weight.shape
        rows, columns = _up_to(outputs, OUTPUT_BLOCK), _up_to(inputs, INPUT_STEP)
        padded = torch.zeros(rows, columns, dtype=torch.int8)
        padded[:outputs, :inputs] = integers
        blocks = padded.view(rows // OUTPUT_BLOCK, OUTPUT_BLOCK, columns // 4, 4)
        self.register_buffer("packed", aligned(blocks.transpose(1, 2)), persistent=False)
        beyond = rows - outputs
        self.register_buffer("scale", F.pad(scale, (0, beyond)), persistent=False)
        self.register_buffer("sums", F.pad(integers.sum(1, dtype=torch.int32), (0, beyond)), persistent=False)
        largest_sum = int(integers.long().abs().sum(1).max())
        limit = min(2**15 - 1, (2**31 - 1) // max(1, largest_sum))
        addresses = self.packed.data_ptr(), self.scale.data_ptr(), self.sums.data_ptr()
        self.struct = c.Linear(*addresses, inputs, outputs, bits, limit)

    def forward(self, x: Tensor) -> Tensor:
        rows = x.float().contiguous()
        count = rows.numel() // self.struct.inputs
        out = torch.empty(*x.shape[:-1], self.struct.outputs)
        if self.bias is not None:
            out.copy_(self.bias)
        added_to = self.bias is not None
        _kernels().linear_rows(ctypes.byref(self.struct), rows.data_ptr(), count, out.data_ptr(), added_to)
        return out

    @staticmethod
    def supported() -> bool:
        return library() is not None


def round_to_int8(weight: Tensor) -> tuple[Tensor, Tensor]:
    """[out, in] -> int8 and scales [out]: exactly what is in a bundle, for weights that came from one."""
    scale = weight.abs().amax(1) / 127
    scale = torch.where(scale > 0, scale, 1.0)
    return (weight / scale[:, None]).round().clamp(-127, 127).to(torch.int8), scale


class NativeTransformer:
    """The layers of a `Transformer` whose linear layers are NativeLinear."""

    def __init__(self, transformer: Transformer) -> None:
        config = transformer.config
        blocks: list[Any] = list(transformer.blocks)
        norms = [(block.attention_norm.weight, block.mlp_norm.weight) for block in blocks]
        tables = transformer.norm.weight, transformer.cos, transformer.sin
        self._kept = norms, tables
        layers: Any = (c.Layer * config.n_layer)(
            *(
                c.Layer(
                    *(norm.data_ptr() for norm in pair),
                    *(getattr(block, name).struct for name in ("qkv", "projection", "up", "down")),
                )
                for pair, block in zip(norms, blocks, strict=True)
            )
        )
        self.n_kv_head, self.head_dim = config.n_kv_head, config.n_embd // config.n_head
        # such layers take attention's products, too, with fewer bits where a whole window is given
        self.in_windows = blocks[0].qkv.struct.bits == 8 and self.head_dim % LANES == 0
        sizes = config.n_layer, config.n_head, config.n_kv_head, config.n_embd, self.head_dim, config.n_ff
        self.struct = c.Transformer(*sizes, *(table.data_ptr() for table in tables), layers)

    def step(self, x: Tensor, cache: KVCache, positions: Tensor, slots: Tensor | None) -> Tensor:
        """See `Transformer.step`."""
        own = torch.arange(x.shape[0]) if slots is None else slots
        return self._run(x, cache_struct(cache.keys, cache.values), own, positions, positions + 1)

    def prefill(self, x: Tensor, cache: KVCache, slot: int, first: int) -> Tensor:
        """x [T, C] of one sequence -> hidden states [T - first, C] from position `first` on."""
        positions = torch.arange(x.shape[0])
        slots = torch.full_like(positions, slot)
        return self._run(x, cache_struct(cache.keys, cache.values), slots, positions, positions + 1, first)

    def forward(self, x: Tensor, *, causal: bool, first: int) -> Tensor:
        """x [T, C] of one sequence, uncached -> hidden states [T - first, C] from position `first` on."""
        length = x.shape[0]
        if not causal and self.in_windows:
            return self._run(x, None, None, None, None, first)
        positions = torch.arange(length)
        visible = positions + 1 if causal else torch.full_like(positions, length)
        shape = (1, 1, self.n_kv_head, _up_to(length, BLOCK), self.head_dim)
        room = torch.empty(2, *shape, dtype=torch.float16)  # of one layer at a time
        cache = cache_struct(room[0], room[1])
        cache.layer_stride = 0
        return self._run(x, cache, torch.zeros_like(positions), positions, visible, first)

    def _run(
        self,
        x: Tensor,
        cache: c.Cache | None,
        slots: Tensor | None,
        positions: Tensor | None,
        visible: Tensor | None,
        first: int = 0,
    ) -> Tensor:
        rows = x.float().clone(memory_format=torch.contiguous_format)
        places = [None if each is None else each.contiguous() for each in (slots, positions, visible)]
        _kernels().transformer_rows(
            ctypes.byref(self.struct),
            None if cache is None else ctypes.byref(cache),
            rows.data_ptr(),
            len(rows),
            first,
            *(None if each is None else each.data_ptr() for each in places),
        )
        return rows[first:]


class NativeSteps:
    """Many steps of a prepared stage in one call. `tokens` [slots, K, T] are read and written; `semantic` [slots, S] is
    what a coarse stage is conditioned on, `styles` [slots, C] what a stage with a style adds to every step, `music`
    [slots] says which prompts are. Row i has the slots of the cache from i * stage.passes on."""

    def __init__(
        self,
        stage: AutoregressiveStage,
        cache: KVCache,
        tokens: Tensor,
        semantic: Tensor | None,
        styles: Tensor | None,
        music: Tensor,
    ) -> None:
        native, heads, config = stage.transformer.native, stage.heads, stage.config
        assert native is not None and heads is not None and isinstance(heads[0], NativeLinear)
        assert tokens.stride(2) == 1 and (semantic is None or semantic.stride(1) == 1)
        assert styles is None or (styles.is_contiguous() and styles.dtype == torch.float32)
        assert music.is_contiguous() and music.dtype == torch.bool
        self._kept = stage, cache, tokens, semantic, styles, music
        self.cache = cache_struct(cache.keys, cache.values)
        self.struct = c.Stage(
            ctypes.pointer(native.struct),
            ctypes.pointer(heads[0].struct),
            stage.table.weight.data_ptr(),
            stage.vocab_size,
            stage.num_codebooks,
            stage.none_row,
            stage.conditioning_rows,
            config.lookahead,
            stage.conditioning_rate,
            tokens.data_ptr(),
            tokens.stride(0),
            tokens.stride(1),
            0 if semantic is None else semantic.data_ptr(),
            0 if semantic is None else semantic.stride(0),
            None if styles is None else styles.data_ptr(),
            stage.passes,
            config.guidance,
            config.music_guidance,
            int(config.semantic_guidance),
            music.data_ptr(),
            None if stage.struck is None else stage.struck.data_ptr(),
            pulse.INTERVALS,
            pulse.LONGEST,
            pulse.SHARES,
        )

    def run(self, positions: Tensor, sampling: Sampling, steps: int) -> None:
        """`steps` steps of the rows at `positions` [FIELDS, B] (see model.positions), which move on."""
        assert positions.is_contiguous()
        _kernels().stage_steps(
            ctypes.byref(self.struct),
            ctypes.byref(self.cache),
            positions.data_ptr(),
            positions.shape[1],
            steps,
            ctypes.byref(_struct_of(sampling)),
        )


def draw(logits: Tensor, sampling: Sampling, steps: Tensor | None, noise: Tensor | None) -> Tensor:
    """Ids [B, K] from logits [B, K, V], see `model.sampling`; either `steps` [B] or `noise` [B, K] is given."""
    rows, codebooks, vocab = logits.shape
    logits = logits.float().contiguous()
    steps = None if steps is None else steps.contiguous()
    noise = None if noise is None else noise.double().contiguous()
    ids = torch.empty(rows, codebooks, dtype=torch.int64)
    _kernels().draw_rows(
        logits.data_ptr(),
        rows,
        codebooks,
        vocab,
        ctypes.byref(_struct_of(sampling)),
        None if steps is None else steps.data_ptr(),
        None if noise is None else noise.data_ptr(),
        ids.data_ptr(),
    )
    return ids


def cache_struct(keys: Tensor, values: Tensor) -> c.Cache:
    """Keys and values [n_layer, slots, n_kv_head, max_length, head_dim] in fp16."""
    assert keys.dtype == values.dtype == torch.float16 and keys.shape[3] % BLOCK == 0
    assert keys.stride() == values.stride() and keys.stride()[3:] == (keys.shape[4], 1)
    return c.Cache(keys.data_ptr(), values.data_ptr(), *keys.stride()[:3])


def aligned(x: Tensor) -> Tensor:
    """A contiguous copy that begins at a multiple of 64 bytes."""
    room = torch.empty(x.numel() * x.element_size() + 63, dtype=torch.uint8)
    at = -room.data_ptr() % 64
    copy = room[at : at + x.numel() * x.element_size()].view(x.dtype).view(x.shape)
    return copy.copy_(x)


def _struct_of(sampling: Sampling) -> c.Sampling:
    fields = sampling.temperature, sampling.keys, sampling.top_k, sampling.top_p
    dtypes = torch.float32, torch.int64, torch.int64, torch.float32
    for x, dtype in zip(fields, dtypes, strict=True):
        assert x is None or (x.dtype == dtype and x.is_contiguous())
    temperature, *others = (None if x is None else x.data_ptr() for x in fields)
    return c.Sampling(temperature, sampling.temperature.shape[1], *others)


def _up_to(n: int, multiple: int) -> int:
    return -(-n // multiple) * multiple


def _kernels() -> Any:
    kernels = library()
    assert kernels is not None
    return kernels
