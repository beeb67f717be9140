"""A training run's state in one file: written whole or not at all, read back only into what it was written from."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from model.errors import TrainingError

KINDS = ("modules", "averaged", "optimizers")


@dataclass
class Progress:
    """How far a run is: steps, seconds, and its best score so far."""

    step: int
    elapsed: float
    best: float


def write_checkpoint(
    path: Path,
    progress: Progress,
    *,
    modules: dict[str, nn.Module],
    averaged: dict[str, nn.Module],
    optimizers: dict[str, torch.optim.Optimizer],
) -> None:
    state: dict[str, Any] = vars(progress).copy()
    kept: tuple[dict[str, Any], ...] = (modules, averaged, optimizers)
    for kind, objects in zip(KINDS, kept, strict=True):
        state[kind] = {name: item.state_dict() for name, item in objects.items()}
    torch.save(state, path.with_suffix(".part"))
    os.replace(path.with_suffix(".part"), path)


def read_checkpoint(
    path: Path,
    device: torch.device,
    *,
    modules: dict[str, nn.Module],
    averaged: dict[str, nn.Module],
    optimizers: dict[str, torch.optim.Optimizer],
) -> Progress:
    """Load the state into the objects given. Raises TrainingError when the file holds others.

    Learning rates stay what the command asks for, not what the interrupted run had.
    """
    state = torch.load(path, map_location=device, weights_only=True)
    kept: tuple[dict[str, Any], ...] = (modules, averaged, optimizers)
    for kind, objects in zip(KINDS, kept, strict=True):
        if set(state[kind]) != set(objects):
            raise TrainingError(f"{path} holds {kind} {sorted(state[kind])}, not {sorted(objects)}")
    for module_kind, each in (("modules", modules), ("averaged", averaged)):
        for name, module in each.items():
            module.load_state_dict(state[module_kind][name])
    for name, optimizer in optimizers.items():
        peaks = [group["peak"] for group in optimizer.param_groups]
        optimizer.load_state_dict(state["optimizers"][name])
        for group, peak in zip(optimizer.param_groups, peaks, strict=True):
            group["peak"] = peak
    return Progress(state["step"], state["elapsed"], state["best"])


def read_weights(path: Path) -> dict[str, Tensor]:
    """The weights that a run left in `path`. Raises TrainingError where there is no such file."""
    if not path.exists():
        raise TrainingError(f"{path} does not exist: nothing to start from")
    return load_file(path)


def take_weights(module: nn.Module, weights: dict[str, Tensor], path: Path) -> None:
    """Copy `weights`, which came from `path`, into `module`; what they lack stays as it was built.

    Raises TrainingError where they hold something that the module has no place for.
    """
    own = module.state_dict()
    strange = [name for name, weight in weights.items() if name not in own or own[name].shape != weight.shape]
    if strange:
        raise TrainingError(f"{path} does not fit the preset: {strange[0]}")
    module.load_state_dict(weights, strict=False)
