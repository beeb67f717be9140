"""Linear layers for inference: what `nn.Linear` becomes once nobody will train it any more.

Each takes float32 or bf16 rows and is chosen for two properties: it reads as few weight bytes as the device allows,
and a row's result does not depend on how many rows come with it, so that a request's tokens are the same alone and in
a batch. On CPUs that `model.native` has kernels for, those have both. Measured with torch 2.11 on AVX-512 and on AMX,
for the shapes of all presets and 1 to 64 rows: oneDNN's bf16 layout has both, too, save that rows of more than 1,024
values are summed in an order that depends on how many there are; float32 products take other kernels below 16 rows (of
Intel's library, below four elsewhere). So rows are filled up with zeros, and long ones go in blocks of one size.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from model.native.kernels import NativeLinear

BLOCK_ROWS = 16
LONG = 1024  # values of a row


def fill_rows(rows: Tensor, count: int) -> Tensor:
    """rows [M, C] with zeros below up to `count` rows."""
    return F.pad(rows, (0, 0, 0, count - rows.shape[0])) if rows.shape[0] < count else rows


class PackedLinear(nn.Module):
    """Weights in oneDNN's bf16 layout, for CPUs with AVX-512 or better."""

    def __init__(self, weight: Tensor) -> None:
        super().__init__()
        self.long = weight.shape[1] > LONG
        self.packed = torch.ops.mkldnn._reorder_linear_weight(weight.detach().to(torch.bfloat16).contiguous())

    def forward(self, x: Tensor) -> Tensor:
        rows = x.to(torch.bfloat16).flatten(0, -2)
        if self.long:
            blocks = [self._product(fill_rows(block, BLOCK_ROWS)) for block in torch.split(rows, BLOCK_ROWS)]
            out = torch.cat(blocks)[: rows.shape[0]]
        else:
            out = self._product(rows)
        return torch.unflatten(out, 0, x.shape[:-1])

    def _product(self, rows: Tensor) -> Tensor:
        return torch.ops.mkldnn._linear_pointwise(rows, self.packed, None, "none", [], "")  # type: ignore[no-any-return]

    @staticmethod
    def supported() -> bool:
        available = torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
        return bool(available and torch.ops.mkldnn._is_mkldnn_bf16_supported())


class PaddedLinear(nn.Module):
    """Float32 weights, for any CPU."""

    weight: Tensor

    def __init__(self, weight: Tensor) -> None:
        super().__init__()
        self.register_buffer("weight", weight.detach().float().contiguous(), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        rows = x.float().flatten(0, -2)
        out = F.linear(fill_rows(rows, BLOCK_ROWS), self.weight)
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
    """Put an inference layer in the place of every `nn.Linear` below `module`; where there are no kernels, of those
    without a bias only."""
    for name, child in module.named_children():
        if not isinstance(child, nn.Linear):
            replace_linears(child, bits, kernels=kernels)
        elif child.bias is None:
            setattr(module, name, inference_linear(child.weight, bits, kernels=kernels))
        elif kernels and child.weight.device.type == "cpu" and NativeLinear.supported():
            setattr(module, name, NativeLinear(child.weight, bits, child.bias))
