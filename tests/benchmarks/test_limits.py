"""Bytes and operations of a step, against counts by hand and against the modules themselves."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from model.config import PRESETS
from model.linear import PackedLinear, PaddedLinear
from model.native.kernels import NativeLinear
from model.stages import CoarseStage, FineStage
from tests.benchmarks.limits import (
    Cost,
    Limits,
    layer_weights,
    pass_cost,
    read_bandwidth,
    step_cost,
    weight_type,
)

TINY = PRESETS["tiny"]


def test_a_coarse_step_of_the_tiny_preset_counted_by_hand() -> None:
    # 2 layers of width 32: 4 query heads and 2 key heads of 8 values; 4 codebooks of 32 codes
    layer = 32 * (4 + 2 + 2) * 8 + 32 * 32 + 32 * 128 + 128 * 32
    weights = 2 * layer + 4 * 32 * 32
    kept = 2 * 2 * (2 * 8) * 10 * 4  # keys and values of 2 layers, 2 heads of 8, 10 positions, 4 bytes
    attention = (
        2 * 2 * (4 * 8) * 10 * 2
    )  # per layer: scores and sums of 4 heads of 8 over 10 positions, 2 each
    assert layer_weights(TINY.coarse) == 2 * layer
    assert step_cost(TINY.coarse, 3, 10, 2, 4) == Cost(2 * weights + 3 * kept, 3 * (2 * weights + attention))


def test_a_fine_pass_of_the_tiny_preset_counted_by_hand() -> None:
    layers, head = 2 * 12 * 32 * 32, 32 * 32
    attention = 2 * (2 * 2 * 32 * 20 * 20)
    cost = pass_cost(TINY.fine, 2, 20, 5, 4)
    assert cost == Cost(4 * (layers + head), 2 * (2 * layers * 20 + 2 * head * 5 + attention))


@pytest.mark.parametrize("preset", ["tiny", "starter"])
def test_layer_weights_are_those_of_the_modules(preset: str) -> None:
    stage = CoarseStage(PRESETS[preset].coarse)
    held = sum(p.numel() for p in stage.transformer.parameters() if p.ndim == 2)
    assert layer_weights(PRESETS[preset].coarse) == held


def test_the_slower_of_bytes_and_operations_is_the_limit() -> None:
    limits = Limits(100.0, {"float32": 1000.0, "int8": 4000.0})
    assert limits.seconds(Cost(200, 1000), "float32") == 2
    assert limits.seconds(Cost(200, 8000), "float32") == 8
    assert limits.seconds(Cost(200, 8000), "int8") == 2
    assert limits.seconds(Cost(200, 1000), "float32", bandwidth=400.0) == 1


def test_the_width_of_weights_is_read_off_a_stage() -> None:
    stage = FineStage(TINY.fine)
    assert weight_type(stage) == ("float32", 4)
    stage.prepare()
    assert stage.heads is not None
    widths = {NativeLinear: ("int8", 1), PackedLinear: ("bfloat16", 2), PaddedLinear: ("float32", 4)}
    assert weight_type(stage) == widths[type(stage.heads[0])]


def test_a_narrow_copy_of_a_part_does_not_count() -> None:
    stage = FineStage(TINY.fine)
    elements = layer_weights(TINY.fine) + 8 * 32 * 32
    holder = nn.Module()
    stage.transformer.add_module("copies", holder)
    holder.narrow = [torch.zeros(elements // 2, dtype=torch.int8)]
    assert weight_type(stage) == ("float32", 4)
    holder.narrow = {"all": torch.zeros(elements, dtype=torch.int8)}
    assert weight_type(stage) == ("int8", 1)


def test_bandwidth_is_bytes_by_seconds() -> None:
    now = iter(range(100))  # every look at the clock is a second later
    measured = read_bandwidth(16 << 20, torch.device("cpu"), lambda: float(next(now)), repeats=1)
    assert measured == 2 * (16 << 20) * 4  # a copy moves every byte twice, four times between two looks
