"""What a training run says while it runs: means of scalars to `log.jsonl`, to TensorBoard and to a progress bar.

Knows no model and decides nothing.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor
from tqdm import tqdm


class Journal:
    """Scalars collected between two lines. A `silent` one (other ranks than 0) writes nothing.

    `board` is a TensorBoard writer, or None.
    """

    def __init__(self, folder: Path, *, tensorboard: bool, silent: bool) -> None:
        self.board: Any = None
        self._path, self._silent = folder / "log.jsonl", silent
        self._kept: dict[str, list[Tensor | float]] = {}
        self._bar: Any = None
        if tensorboard and not silent:
            from torch.utils.tensorboard import SummaryWriter  # the extra [train] installs it

            self.board = SummaryWriter(str(folder / "tensorboard"))

    def open_bar(self, title: str, percent: int) -> None:
        self._bar = tqdm(
            total=100, unit="%", desc=title, disable=self._silent, initial=percent,
            mininterval=0.5 if sys.stderr.isatty() else 30,
            bar_format="{desc} {percentage:3.0f}%|{bar}| {elapsed}<{remaining}{postfix}",
        )  # fmt: skip

    def collect(self, values: dict[str, Tensor | float]) -> None:
        for name, value in values.items():
            self._kept.setdefault(name, []).append(value.detach() if isinstance(value, Tensor) else value)

    def write(self, step: int, seconds: float, percent: int, **more: float) -> None:
        """One line: the means of what was collected since the last one, and `more`."""
        values = {name: float(np.mean([float(v) for v in kept])) for name, kept in self._kept.items()}
        self._kept.clear()
        values |= more
        if not self._silent:
            with open(self._path, "a") as file:
                file.write(json.dumps({"step": step, "seconds": round(seconds, 1), **values}) + "\n")
        if self.board is not None:
            for name, value in values.items():
                self.board.add_scalar(name, value, step)
        self._bar.set_postfix({k: f"{v:.4g}" for k, v in values.items()}, refresh=False)
        self._bar.update(percent - self._bar.n)

    def close_bar(self) -> None:
        self._bar.close()

    def close(self) -> None:
        if self.board is not None:
            self.board.close()
