"""The loop every `train_*.py` runs in: a wall-clock budget, checkpoints, logs, averaged weights.

Decisions held here:
- The budget is minutes, not steps; the learning rate follows the fraction of it that is spent (short warm-up, then
  cosine to zero), so a run always ends annealed. Time spent before an interruption counts.
- Every step's randomness follows from (seed, rank, step): a resumed run draws what it would have drawn.
- A checkpoint is written to a temporary name and renamed: there is always a whole one. SIGTERM and Ctrl-C write one.
- Under `torchrun`, gradients are averaged over ranks after `backward`; no module is wrapped.
- Weights that leave the run are exponential moving averages of the trained ones.

    run = TrainingRun(options, "semantic", config, {"model": model}, {"main": adamw(model, 3e-4)}, averaged=["model"])
    for step in run:
        with run.autocast():
            loss = model(batch(run.rng))
        run.update(loss)
        run.log(loss=loss)
    run.save_weights("model")
    return run.finish([Check(...)])

It knows nothing of what is being trained.
"""

from __future__ import annotations

import copy
import json
import math
import os
import signal
import time
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Protocol

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from model.errors import TrainingError
from model.training.checkpoint import Progress, read_checkpoint, read_weights, take_weights, write_checkpoint
from model.training.journal import Journal
from model.training.optimization import adamw, learning_rate_scale, muon
from model.training.options import TrainingOptions, training_device
from model.training.ranks import Ranks
from model.training.report import Check, Report

__all__ = [
    "Check",
    "Report",
    "TrainingOptions",
    "TrainingRun",
    "adamw",
    "learning_rate_scale",
    "muon",
    "training_device",
]

MAX_BAD_STEPS = 20  # gradients that are not finite, one after another, before the run gives up


class Config(Protocol):
    """A part's config: plain JSON values on request."""

    def to_dict(self) -> dict[str, Any]: ...


class TrainingRun:
    """Iterate over it for the steps; see the module's example.

    modules: name -> module, all that a checkpoint must hold, already built; they are moved to `self.device`, and the
    optimizers built on their parameters follow.
    """

    def __init__(
        self,
        options: TrainingOptions,
        part: str,
        config: Config,
        modules: dict[str, nn.Module],
        optimizers: dict[str, torch.optim.Optimizer],
        *,
        averaged: Sequence[str] = (),
        decay: float = 0.999,
    ) -> None:
        self.part, self.out = part, options.out / part
        self.options, self.modules, self.optimizers, self.decay = options, modules, optimizers, decay
        self.device = training_device(options)
        self.ranks = Ranks(self.device)
        self.step, self.elapsed, self.best = 0, 0.0, math.inf
        self.rng = np.random.default_rng(0)
        if options.start is not None:
            path = options.start / part / "model.safetensors"
            for name in averaged:
                take_weights(modules[name], read_weights(path), path)
        for module in modules.values():
            module.to(self.device).train()
            self.ranks.share(module.state_dict().values())
        for optimizer in optimizers.values():
            for group in optimizer.param_groups:
                group["peak"] = options.rate * group["lr"]
        self.averaged = {name: copy.deepcopy(modules[name]).eval().requires_grad_(False) for name in averaged}
        self._signal: int | None = None
        self._bad_steps = 0
        self._due: dict[str, float] = {}
        self._open(config)

    def _open(self, config: Config) -> None:
        config_path, checkpoint_path = self.out / "config.json", self.out / "checkpoint.pt"
        wanted = json.loads(json.dumps(config.to_dict()))
        if checkpoint_path.exists():
            if not self.options.resume:
                raise TrainingError(f"{checkpoint_path} exists: pass --resume, or choose another --out")
            if json.loads(config_path.read_text()) != wanted:
                raise TrainingError(
                    f"{config_path} differs from preset {self.options.preset!r}: cannot resume"
                )
            progress = read_checkpoint(checkpoint_path, self.device, **self._state)
            self.step, self.elapsed, self.best = progress.step, progress.elapsed, progress.best
        elif self.ranks.rank == 0:
            self.out.mkdir(parents=True, exist_ok=True)
            config_path.write_text(json.dumps(wanted, indent=1) + "\n")
        self.journal = Journal(self.out, tensorboard=self.options.tensorboard, silent=self.ranks.rank != 0)

    # -- the steps ---------------------------------------------------------------------------------------------

    @property
    def fraction(self) -> float:
        """Share of the budget that is spent, 0..1."""
        spent = self.elapsed / (60 * self.options.minutes) if self.options.minutes > 0 else 1.0
        if self.options.max_steps is not None:
            spent = max(self.step / self.options.max_steps, spent if self.options.minutes > 0 else 0.0)
        return min(1.0, spent)

    def lr(self, peak: float) -> float:
        """`peak` scaled to where the run is in its schedule. `update` does this for every optimizer."""
        return peak * learning_rate_scale(self.fraction)

    def __iter__(self) -> Iterator[int]:
        """Yield step numbers until the budget is spent; exits the process with 128 + n after signal n."""
        handlers = {s: signal.signal(s, self._on_signal) for s in (signal.SIGTERM, signal.SIGINT)}
        self.journal.open_bar(self.part, round(100 * self.fraction))
        clock, logged, saved, logged_step = time.monotonic(), self.elapsed, self.elapsed, self.step
        try:
            while self.fraction < 1 and self._signal is None:
                key = [self.options.seed, self.ranks.rank, self.step]
                self.rng = np.random.default_rng(key)
                torch.manual_seed(int(self.rng.integers(2**62)))
                yield self.step
                self.step += 1
                now = time.monotonic()
                self.elapsed, clock = self.elapsed + now - clock, now
                self.elapsed, self._signal = self.ranks.agree(self.elapsed, self._signal)
                if self.elapsed - logged > 5 or self.fraction >= 1:
                    self.journal.write(
                        self.step,
                        self.elapsed,
                        round(100 * self.fraction),
                        lr_scale=learning_rate_scale(self.fraction),
                        steps_per_second=(self.step - logged_step) / max(1e-9, self.elapsed - logged),
                    )
                    logged, logged_step = self.elapsed, self.step
                if self.elapsed - saved > 60 * self.options.checkpoint_minutes:
                    self.checkpoint()
                    saved = self.elapsed
            self.checkpoint()
        finally:
            self.journal.close_bar()
            for number, handler in handlers.items():
                signal.signal(number, handler)
        if self._signal is not None:
            raise SystemExit(128 + self._signal)

    def _on_signal(self, number: int, frame: object) -> None:
        self._signal = number

    def autocast(self) -> torch.autocast:
        """bf16 for matrix products, on CPU and CUDA."""
        return torch.autocast(self.device.type, torch.bfloat16)

    def update(self, loss: Tensor, *, clip: float = 1.0) -> float | Tensor:
        """Backward, average over ranks, clip, step the optimizers, move the averages. Returns the gradient norm.

        A step whose gradient is not finite is left out; raises TrainingError after MAX_BAD_STEPS of them in a row.
        """
        groups = [group for optimizer in self.optimizers.values() for group in optimizer.param_groups]
        for optimizer in self.optimizers.values():
            optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        parameters = [p for group in groups for p in group["params"] if p.grad is not None]
        self.ranks.average_gradients(parameters)
        norm = nn.utils.clip_grad_norm_(parameters, clip)
        if not bool(torch.isfinite(norm)):
            self._bad_steps += 1
            if self._bad_steps >= MAX_BAD_STEPS:
                raise TrainingError(
                    f"{self.part}: {MAX_BAD_STEPS} steps without a finite gradient, at {self.step}"
                )
            return norm
        self._bad_steps = 0
        for group in groups:
            group["lr"] = self.lr(group["peak"])
        for optimizer in self.optimizers.values():
            optimizer.step()
        owned = {id(p) for p in parameters}
        for name, average in self.averaged.items():
            module = self.modules[name]
            if any(id(p) in owned for p in module.parameters()):
                decay = min(self.decay, (1 + self.step) / (10 + self.step))
                with torch.no_grad():
                    torch._foreach_lerp_(list(average.parameters()), list(module.parameters()), 1 - decay)
                    for kept, new in zip(average.buffers(), module.buffers(), strict=True):
                        kept.copy_(new)
        return norm

    def due(self, name: str, minutes: float) -> bool:
        """Whether `minutes` of the run have passed since this last answered yes for `name` (first: at once)."""
        if self._due.get(name, -math.inf) + 60 * minutes > self.elapsed:
            return False
        self._due[name] = self.elapsed
        return True

    # -- what is kept ------------------------------------------------------------------------------------------

    def log(self, **values: Tensor | float) -> None:
        """Collect scalars; their means over a few seconds go to log.jsonl, the progress bar and TensorBoard."""
        self.journal.collect(values)

    @property
    def board(self) -> Any:
        """The TensorBoard writer, or None."""
        return self.journal.board

    @property
    def _state(self) -> dict[str, Any]:
        return {"modules": self.modules, "averaged": self.averaged, "optimizers": self.optimizers}

    def checkpoint(self) -> None:
        """Write everything a resumed run needs to `checkpoint.pt`, atomically."""
        if self.ranks.rank == 0:
            progress = Progress(self.step, self.elapsed, self.best)
            write_checkpoint(self.out / "checkpoint.pt", progress, **self._state)

    def save_weights(self, name: str, score: float | None = None) -> bool:
        """Write the averaged weights of module `name` to `model.safetensors`; with a `score` (lower is better)
        only if it is the best so far. Returns whether they were written."""
        if self.ranks.rank != 0 or (score is not None and score >= self.best):
            return False
        if score is not None:
            self.best = score
        module = self.averaged.get(name, self.modules[name])
        path = self.out / "model.safetensors"
        weights = {key: value.detach().cpu().contiguous() for key, value in module.state_dict().items()}
        save_file(weights, path.with_suffix(".part"))
        os.replace(path.with_suffix(".part"), path)
        return True

    def best_module(self, name: str) -> nn.Module:
        """The averaged module `name` with the weights that `save_weights` kept last."""
        self.ranks.wait()
        module = copy.deepcopy(self.averaged[name])
        module.load_state_dict(load_file(self.out / "model.safetensors", device=str(self.device)))
        return module

    def finish(self, checks: Iterable[Check], **measures: float) -> Report:
        """Write `report.json`, print the pass/fail table, close the logs."""
        report = Report(self.part, self.step, round(self.elapsed, 1), tuple(checks), measures)
        if self.ranks.rank == 0:
            (self.out / "report.json").write_text(json.dumps(report.to_dict(), indent=1) + "\n")
            for check in report.checks:
                sign = ">=" if check.above else "<="
                verdict = "pass" if check.passed else "FAIL"
                print(f"{verdict}  {self.part}: {check.name} {check.value:.4g} {sign} {check.limit:.4g}")
        self.journal.close()
        self.ranks.wait()  # torchrun ends all when one ends with a failed check
        return report
