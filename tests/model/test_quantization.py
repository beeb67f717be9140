"""Stored weights: small, and near what was trained."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from model.errors import BundleError
from model.quantization import SCALE, matrix_names, pack, unpack


def test_matrices_keep_their_values_to_half_a_step() -> None:
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(64, 48, generator=generator) * torch.logspace(-4, 1, 64)[:, None]
    weight[5] = 0
    stored = pack({"w": weight}, {"w"})
    assert stored["w"].dtype == torch.int8
    back = unpack(stored)["w"]
    step = weight.abs().amax(1, keepdim=True) / 127
    assert ((back - weight).abs() <= 0.501 * step + 1e-9).all()
    noise = (back - weight)[10:].square().sum() / weight[10:].square().sum()
    assert noise < 1e-4  # 40 dB


def test_other_tensors_are_halved_unless_that_overflows() -> None:
    stored = pack({"a": torch.tensor([0.1, 2.0]), "b": torch.tensor([1e6]), "n": torch.tensor([3])}, set())
    assert [stored[k].dtype for k in ("a", "b", "n")] == [torch.float16, torch.float32, torch.int64]
    back = unpack(stored)
    assert back["a"].dtype == torch.float32
    assert back["b"].item() == 1e6


def test_a_lost_scale_is_an_error() -> None:
    stored = pack({"w": torch.ones(4, 4)}, {"w"})
    del stored["w" + SCALE]
    with pytest.raises(BundleError, match=r"w\.scale"):
        unpack(stored)


def test_only_large_matrices_are_meant_for_8_bits() -> None:
    module = nn.ModuleDict(
        {
            "big": nn.Linear(64, 64),
            "small": nn.Linear(4, 4),
            "table": nn.Embedding(64, 64),
            "norm": nn.LayerNorm(64),
        }
    )
    assert matrix_names(module) == {"big.weight", "table.weight"}
