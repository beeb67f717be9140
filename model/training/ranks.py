"""Several processes of one run, started by torchrun: who is which, and what they share.

Gradients are averaged after `backward` in one flat tensor; modules stay as they are, so that a run with several
optimizers or losses needs no special case. Without torchrun every function is a no-op for one process.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import timedelta

import torch
import torch.distributed as dist
from torch import Tensor, nn

LONGEST_WAIT = timedelta(hours=24)  # the first rank may have hours of work that the others wait for


class Ranks:
    """This process among its peers. `rank` 0 writes files and logs."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.rank, self.world_size = 0, 1
        if "RANK" in os.environ:
            if not dist.is_initialized():
                dist.init_process_group("nccl" if device.type == "cuda" else "gloo", timeout=LONGEST_WAIT)
            self.rank, self.world_size = dist.get_rank(), dist.get_world_size()

    def share(self, tensors: Iterable[Tensor]) -> None:
        """Overwrite `tensors` by the first rank's."""
        if self.world_size > 1:
            for tensor in tensors:
                dist.broadcast(tensor, 0)

    def average_gradients(self, parameters: list[nn.Parameter]) -> None:
        """Mean over ranks of the gradients of `parameters`, all of which have one."""
        if self.world_size > 1:
            flat = torch.cat([p.grad.flatten() for p in parameters if p.grad is not None])
            dist.all_reduce(flat)
            flat /= self.world_size
            for p, mean in zip(parameters, torch.split(flat, [p.numel() for p in parameters]), strict=True):
                p.grad = mean.view_as(p)

    def agree(self, elapsed: float, signal: int | None) -> tuple[float, int | None]:
        """The first rank's clock, and whichever signal any rank got: all stop after the same step."""
        if self.world_size == 1:
            return elapsed, signal
        clock = torch.tensor(elapsed, dtype=torch.float64, device=self.device)
        caught = torch.tensor(signal or 0, device=self.device)
        dist.broadcast(clock, 0)
        dist.all_reduce(caught, dist.ReduceOp.MAX)
        return float(clock), int(caught) or None

    @contextmanager
    def first_before_others(self) -> Iterator[None]:
        """The block on the first rank, then on the others, which find what it wrote."""
        if self.rank > 0:
            self.wait()
        yield
        if self.rank == 0:
            self.wait()

    def wait(self) -> None:
        """Until every rank is here."""
        if self.world_size > 1:
            dist.barrier()
