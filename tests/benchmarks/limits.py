"""What the device could do at best, measured, and what a step needs, by construction.

A step takes at least the time to read its bytes and at least the time of its operations. Bytes: every weight of the
stage once, at the width in which the step reads it, and the keys and values each row attends to. Operations: two per
weight and row, and two products per row over its keys and values. Activations, norms and sampling are left out, so the
limit is a true lower bound. Bandwidth is measured twice: from memory, and over a block as large as the step's bytes,
because a small model's weights stay in the processor's cache, which is faster.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from model.config import StageConfig
from model.stages import FineStage, Stage
from tests.benchmarks.timing import CLOCKS, Clock, seconds_of

MEMORY_BYTES = 256 << 20  # beyond every cache
ROUND_BYTES = 64 << 20  # read between two looks at the clock, at least


@dataclass(frozen=True)
class Cost:
    """What one step reads and computes."""

    num_bytes: float
    operations: float


@dataclass(frozen=True)
class Limits:
    """Bytes per second from memory, and operations per second by type, of one device."""

    bandwidth: float
    rates: dict[str, float]

    def seconds(self, cost: Cost, weight_type: str, bandwidth: float | None = None) -> float:
        """The least time of a step, with products in `weight_type`; `bandwidth`: of its bytes, if not memory's."""
        rate = self.rates.get(weight_type) or max(self.rates.values())
        return max(cost.num_bytes / (bandwidth or self.bandwidth), cost.operations / rate)


def layer_weights(config: StageConfig) -> int:
    """Matrix elements of all layers."""
    width, head = config.n_embd, config.n_embd // config.n_head
    mixed = width * (config.n_head + 2 * config.n_kv_head) * head
    return config.n_layer * (mixed + width * width + 2 * width * config.n_ff)


def step_cost(config: StageConfig, rows: int, length: float, weight_bytes: float, key_bytes: float) -> Cost:
    """One autoregressive step of `rows` rows that attend to `length` positions each.

    weight_bytes and key_bytes: of one element of a weight, and of a key or value.
    """
    head = config.n_embd // config.n_head
    weights = layer_weights(config) + config.num_codebooks * config.vocab_size * config.n_embd
    kept = 2 * config.n_layer * config.n_kv_head * head * length * key_bytes  # of one row
    attention = 4 * config.n_layer * config.n_head * head * length
    return Cost(weights * weight_bytes + rows * kept, rows * (2 * weights + attention))


def pass_cost(config: StageConfig, rows: int, frames: int, new_frames: float, weight_bytes: float) -> Cost:
    """One level of a fine window of `frames` frames, of which `new_frames` are drawn, for `rows` rows together."""
    layers, head = layer_weights(config), config.vocab_size * config.n_embd
    attention = 4 * config.n_layer * config.n_embd * frames * frames
    operations = rows * (2 * layers * frames + 2 * head * new_frames + attention)
    return Cost((layers + head) * weight_bytes, operations)


def weight_type(stage: Stage) -> tuple[str, float]:
    """(type, bytes per element) in which a prepared stage reads its matrices: the narrowest complete copy it holds."""
    config = stage.config
    elements = layer_weights(config)
    if isinstance(stage, FineStage):
        elements += config.num_codebooks * config.vocab_size * config.n_embd
    held: dict[torch.dtype, int] = {}
    seen: set[int] = set()
    for module in (stage.transformer, stage.heads):
        for tensor in _tensors(module, seen):
            held[tensor.dtype] = held.get(tensor.dtype, 0) + tensor.numel()
    complete = [dtype for dtype, count in held.items() if count >= 0.9 * elements]
    dtype = min(complete, key=lambda kind: kind.itemsize, default=torch.float32)
    return str(dtype).removeprefix("torch."), dtype.itemsize


def _tensors(value: object, seen: set[int]) -> list[Tensor]:
    """Every large tensor that a module, list or dict holds, registered or not."""
    if id(value) in seen:
        return []
    seen.add(id(value))
    match value:
        case Tensor():
            return [value.detach()] if value.numel() >= 1024 else []
        case nn.Module():
            children: list[object] = list(vars(value).values())
        case dict():
            children = list(value.values())
        case list() | tuple():
            children = list(value)
        case _:
            return []
    return [tensor for child in children for tensor in _tensors(child, seen)]


def read_bandwidth(
    num_bytes: int, device: torch.device, clock: Clock = CLOCKS["wall"], repeats: int = 5
) -> float:
    """Bytes per second, the best of sums and copies over a block of `num_bytes`."""
    elements = max(1024, num_bytes // 4)
    block = torch.ones(elements, device=device)
    target = torch.empty_like(block)
    rounds = max(1, ROUND_BYTES // block.nbytes)

    def repeated(work: Callable[[], object]) -> float:
        def many() -> None:
            for _ in range(rounds):
                work()

        many()
        return min(seconds_of(many, clock, device) for _ in range(repeats)) / rounds

    return max(block.nbytes / repeated(block.sum), 2 * block.nbytes / repeated(lambda: target.copy_(block)))


def matrix_rate(dtype: torch.dtype, device: torch.device, clock: Clock, size: int) -> float:
    """Operations per second of a square matrix product; 0 where the device has none of this type."""
    if dtype == torch.int8:
        left = torch.ones(size, size, dtype=dtype, device=device)
        right = torch.ones(size, size, dtype=dtype, device=device).t()
        work: Callable[[], Tensor] = lambda: torch._int_mm(left, right)  # noqa: E731
    else:
        left, right = (torch.randn(size, size, device=device).to(dtype) for _ in range(2))
        work = lambda: left @ right  # noqa: E731
    try:
        work()
    except RuntimeError:
        return 0.0
    return 2 * size**3 / min(seconds_of(work, clock, device) for _ in range(4))


def measure(device: torch.device, clock: Clock = CLOCKS["wall"]) -> Limits:
    """Measure the device. Seconds."""
    on_cuda = device.type == "cuda"
    size = 8192 if on_cuda else 1024
    kinds = (torch.float32, torch.bfloat16, torch.int8)
    rates = {str(kind).removeprefix("torch."): matrix_rate(kind, device, clock, size) for kind in kinds}
    block = 4 * MEMORY_BYTES if on_cuda else MEMORY_BYTES
    return Limits(read_bandwidth(block, device, clock), {name: rate for name, rate in rates.items() if rate})
