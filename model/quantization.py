"""How weights are stored: fp16, or int8 with one scale per output channel for matrices.

Symmetric rounding (LLM.int8(), arXiv 2208.07339, without the outlier split): a language model's matrices keep
about 40 dB of signal over rounding noise at half the bytes. Weights are float32 again after `unpack`.
Knows tensors and names, no files.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from model.errors import BundleError

SCALE = ".scale"  # `<name>.scale` [C] belongs to the int8 tensor `<name>` [C, ...]
MIN_ELEMENTS = 1024  # smaller matrices save nothing worth their rounding


def matrix_names(module: nn.Module) -> set[str]:
    """State names of the weights that int8 storage applies to: of linear and embedding layers."""
    return {
        f"{name}.weight" if name else "weight"
        for name, layer in module.named_modules()
        if isinstance(layer, nn.Linear | nn.Embedding) and layer.weight.numel() >= MIN_ELEMENTS
    }


def pack(state: Mapping[str, Tensor], int8_names: set[str]) -> dict[str, Tensor]:
    """Weights by name -> stored tensors by name. float -> fp16 where it fits, else float32; others unchanged."""
    stored: dict[str, Tensor] = {}
    for name, tensor in state.items():
        tensor = tensor.detach().cpu()
        if name in int8_names:
            stored[name], stored[name + SCALE] = _to_int8(tensor.float())
        elif tensor.is_floating_point():
            half = tensor.half()
            stored[name] = half if bool(torch.isfinite(half).all()) else tensor.float()
        else:
            stored[name] = tensor
    return {name: tensor.contiguous().clone() for name, tensor in stored.items()}


def unpack(stored: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Stored tensors by name -> float32 (or integer) weights by name. Raises BundleError for a lost scale."""
    scales = {name + SCALE for name, tensor in stored.items() if tensor.dtype == torch.int8}
    lost = sorted(scales - set(stored))
    if lost:
        raise BundleError(f"tensor {lost[0]!r} is missing", code="bundle_tensors")
    weights: dict[str, Tensor] = {}
    for name, tensor in stored.items():
        if name in scales:
            continue
        if tensor.dtype == torch.int8:
            scale = stored[name + SCALE]
            weights[name] = tensor.float() * scale.view(-1, *[1] * (tensor.ndim - 1))
        else:
            weights[name] = tensor.float() if tensor.is_floating_point() else tensor
    return weights


def _to_int8(tensor: Tensor) -> tuple[Tensor, Tensor]:
    """[C, ...] -> int8 [C, ...] and float32 scales [C]."""
    scale = tensor.flatten(1).abs().amax(1) / 127
    scale = torch.where(scale > 0, scale, 1.0)
    steps = tensor / scale.view(-1, *[1] * (tensor.ndim - 1))
    return steps.round().clamp(-127, 127).to(torch.int8), scale
