"""What a training is told: by the command line, the same for every part."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import torch


@dataclass(frozen=True)
class TrainingOptions:
    """Budgets, folders and sizes of one run."""

    preset: str
    data: tuple[Path, ...]
    out: Path  # RUN_DIR; the part's own files go to RUN_DIR/<part>, decoded audio and tokens to RUN_DIR/cache
    minutes: float  # budget of the whole run, resumed or not
    resume: bool = False
    often: Mapping[str, float] = field(
        default_factory=dict
    )  # corpus folder's name -> times as often as others
    rate: float = 1.0  # of the usual learning rates
    start: Path | None = None  # a RUN_DIR whose weights of the part a new run begins with
    seed: int = 0
    device: str | None = None  # default: CUDA if there is one
    batch: int | None = None  # rows of a step and process; default: what the part finds right for the device
    compile: bool = False
    tensorboard: bool = False
    checkpoint_minutes: float = 3.0
    max_steps: int | None = None  # a second budget, in steps: reproducible runs and tests


def training_device(options: TrainingOptions) -> torch.device:
    """The device of this process: `options.device`, else this rank's CUDA device, else the CPU."""
    if options.device is not None:
        return torch.device(options.device)
    return (
        torch.device("cuda", int(os.environ.get("LOCAL_RANK", 0)))
        if torch.cuda.is_available()
        else torch.device("cpu")
    )
