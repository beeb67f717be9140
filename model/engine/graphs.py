"""CUDA graphs of a stage's step: several steps per launch, ids drawn and positions advanced on the device.

Decisions held here: every replay runs all rows of the cache, because a row must meet the same kernels whatever else is
in the batch, and steps of a GPU cost nearly the same for one row as for all. Rows without a sequence step in place,
in a spare lane. A graph is captured when its kind of sampling is first needed. Knows no stage.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from model.positions import ADVANCE, FIELDS, SLOT, STEP

STEPS_PER_REPLAY = 8

Step = Callable[[Tensor, tuple[bool, bool], int | None], None]


class StepGraphs:
    """Replays `step(positions [FIELDS, rows], narrowed, None)`, which must not synchronize."""

    def __init__(self, step: Step, rows: int, spare_slot: int, device: torch.device) -> None:
        self._step = step
        self._idle = torch.zeros(FIELDS, rows, dtype=torch.int64, device=device)
        self._idle[SLOT] = spare_slot
        self._positions = self._idle.clone()
        self._graphs: dict[tuple[tuple[bool, bool], int], torch.cuda.CUDAGraph] = {}

    def run(self, positions: Tensor, narrowed: tuple[bool, bool], steps: int) -> None:
        """`steps` steps of the rows at `positions` [FIELDS, B]."""
        wanted = self._idle.clone()
        wanted[:, : positions.shape[1]] = positions
        while steps:
            chunk = STEPS_PER_REPLAY if steps >= STEPS_PER_REPLAY else 1
            graph = self._graph(narrowed, chunk)
            self._positions.copy_(wanted)
            graph.replay()
            wanted[STEP] += chunk * wanted[ADVANCE]
            steps -= chunk

    def _graph(self, narrowed: tuple[bool, bool], steps: int) -> torch.cuda.CUDAGraph:
        key = (narrowed, steps)
        if key not in self._graphs:
            self._positions.copy_(self._idle)
            stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
            stream.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(stream):  # libraries set themselves up outside the capture
                self._step(self._positions, narrowed, None)
            torch.cuda.current_stream().wait_stream(stream)
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph):
                for _ in range(steps):
                    self._step(self._positions, narrowed, None)
                    self._positions[STEP] += self._positions[ADVANCE]
            self._graphs[key] = graph
        return self._graphs[key]
