"""What is optimized how: Muon and AdamW's parameter groups, and the learning rate over a run's budget."""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
from torch import nn

WARM_UP = 0.02  # of the budget


def adamw(
    modules: nn.Module | Iterable[nn.Module],
    learning_rate: float,
    *,
    weight_decay: float = 0.05,
    betas: tuple[float, float] = (0.9, 0.95),
) -> torch.optim.AdamW:
    """AdamW over all parameters; only matrices and kernels decay, gains and biases do not."""
    modules = [modules] if isinstance(modules, nn.Module) else list(modules)
    parameters = [p for module in modules for p in module.parameters() if p.requires_grad]
    groups = [
        {"params": [p for p in parameters if p.ndim >= 2], "weight_decay": weight_decay},
        {"params": [p for p in parameters if p.ndim < 2], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW([group for group in groups if group["params"]], lr=learning_rate, betas=betas)


def muon(
    deep: Iterable[nn.Module], rest: Iterable[nn.Parameter], learning_rate: float
) -> dict[str, torch.optim.Optimizer]:
    """Muon for the matrices of `deep` modules, AdamW for their gains and for `rest` (tables), at half the rate.

    Muon makes every update a nearly orthogonal matrix (Jordan et al. 2024), scaled to AdamW's size as in
    arXiv 2502.16982.
    """
    inner = [p for module in deep for p in module.parameters()]
    matrices = [p for p in inner if p.ndim == 2]
    gains = [p for p in inner if p.ndim != 2]
    return {
        "matrices": torch.optim.Muon(
            matrices, lr=learning_rate, weight_decay=0.05, adjust_lr_fn="match_rms_adamw"
        ),
        "tables": torch.optim.AdamW(
            [*rest, *gains], lr=learning_rate / 2, betas=(0.9, 0.95), weight_decay=0.0
        ),
    }


def learning_rate_scale(fraction: float) -> float:
    """Share of the peak learning rate after `fraction` of the budget: linear warm-up, cosine to zero."""
    if fraction < WARM_UP:
        return (fraction + 1e-3) / (WARM_UP + 1e-3)
    return 0.5 * (1 + math.cos(math.pi * min(1.0, (fraction - WARM_UP) / (1 - WARM_UP))))
