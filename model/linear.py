"""Bias-free linear layers for inference: what `nn.Linear` becomes once nobody will train it any more.

Each takes float32 or bf16 rows and is chosen for two properties: it reads as few weight bytes as the device allows,
and a row's result does not depend on how many rows come with it, so that a request's tokens are the same alone and in
a batch. On CPUs that `model.native` has kernels for, those have both. Measured with torch 2.11 and AVX-512, for the
shapes of all presets and 1 to 64 rows: oneDNN's bf16 layout has both, too, save that a single row of more than 1,024
values is summed in another order; float32 products take other kernels below four rows. Such few rows are filled up
with zeros.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from model.native.kernels import NativeLinear


def fill_rows(rows: Tensor, least: int) -> Tensor:
    """rows [M, C] with zeros below up to `least` rows."""
    return F.pad(rows, (0, 0, 0, least - rows.shape[0])) if rows.shape[0] < least else rows


class PackedLinear(nn.Module):
    """Weights in oneDNN's bf16 layout, for CPUs with AVX-512 or better."""

    def __init__(self, weight: Tensor) -> None:
        super().__init__()
        self.least_rows = 2 if weight.shape[1] > 1024 else 1
        self.packed = torch.ops.mkldnn._reorder_linear_weight(weight.detach().to(torch.bfloat16).contiguous())

    def forward(self, x: Tensor) -> Tensor:
        rows = x.to(torch.bfloat16).flatten(0, -2)
        filled = fill_rows(rows, self.least_rows)
        out: Tensor = torch.ops.mkldnn._linear_pointwise(filled, self.packed, None, "none", [], "")
        return torch.unflatten(out[: rows.shape[0]], 0, x.shape[:-1])

    @staticmethod
    def supported() -> bool:
        available = torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
        return bool(available and torch.ops.mkldnn._is_mkldnn_bf16_supported())


class PaddedLinear(nn.Module):
    """Float32 weights, for any CPU."""

    LEAST_ROWS = 4
    weight: Tensor

    def __init__(self, weight: Tensor) -> None:
        super().__init__()
        self.register_buffer("weight", weight.detach().float().contiguous(), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        rows = x.float().flatten(0, -2)
        out = F.linear(fill_rows(rows, self.LEAST_ROWS), self.weight)
        return torch.unflatten(out[: rows.shape[0]], 0, x.shape[:-1])


class HalfLinear(nn.Module):
    """bf16 weights, for CUDA."""

    weight: Tensor

    def __init__(self, weight: Tensor) -> None:
        super().__init__()
        self.register_buffer("weight", weight.detach().to(torch.bfloat16).contiguous(), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x.to(torch.bfloat16), self.weight)


def inference_linear(weight: Tensor, bits: int = 16, *, kernels: bool = True) -> nn.Module:
    """The layer that multiplies by `weight` [out, in] fastest where the weight lies.

    `kernels`: use those of `model.native` where there are any; `bits`: how finely they take activations."""
    if weight.device.type == "cuda":
        return HalfLinear(weight)
    if kernels and NativeLinear.supported():
        return NativeLinear(weight, bits)
    return PackedLinear(weight) if PackedLinear.supported() else PaddedLinear(weight)


def replace_linears(module: nn.Module, bits: int = 16, *, kernels: bool = True) -> None:
    """Put an inference layer in the place of every bias-free `nn.Linear` below `module`."""
    for name, child in module.named_children():
        if isinstance(child, nn.Linear) and child.bias is None:
            setattr(module, name, inference_linear(child.weight, bits, kernels=kernels))
        else:
            replace_linears(child, bits, kernels=kernels)
