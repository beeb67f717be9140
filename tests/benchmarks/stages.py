"""Steps per second of each stage at several batch sizes, inside the service's engine, beside the limit.

An engine is filled with as many sequences as the batch has rows and stepped; a stopwatch around its runner notes every
batch. Only full batches of the autoregressive stages count; the fine stage and the decoder run the rows the engine
gives them (one on a CPU). Batch sizes take turns in slices. Knows no peer.
"""

from __future__ import annotations

import time
from collections.abc import Sequence as Rows
from dataclasses import asdict, dataclass
from typing import Any

import torch

from model.audiolm import AudioLM
from model.engine.engine import Engine
from model.engine.runner import ModelRunner
from model.engine.scheduler import Batch
from model.engine.sequence import Prompt, Sequence
from model.engine.work import COARSE, DECODE, FINE, SEMANTIC
from model.stages import AutoregressiveStage, Stage
from tests.benchmarks.conditions import available_memory
from tests.benchmarks.limits import Cost, Limits, pass_cost, read_bandwidth, step_cost, weight_type
from tests.benchmarks.systems import cache_bytes, submit
from tests.benchmarks.timing import Clock, Spread

PROMPT_SECONDS = 1.0
SECONDS = 10.0  # of each continuation: one coarse window
PASSES = "passes"  # unit of the fine stage: one level of one window


@dataclass(frozen=True)
class Timed:
    """One batch that ran. `cost` is None where there is no count."""

    stage: str
    rows: int
    steps: int
    seconds: float
    audio_seconds: float
    cost: Cost | None


class Stopwatch:
    """A ModelRunner that notes how long its batches take."""

    def __init__(self, runner: ModelRunner, clock: Clock) -> None:
        self._runner, self._clock = runner, clock
        self._stages: dict[str, Stage] = {
            stage.kind: stage for stage in (runner.model.semantic, runner.model.coarse, runner.model.fine)
        }
        self._widths = {name: weight_type(stage)[1] for name, stage in self._stages.items()}
        caches = {name: stage.transformer.new_cache(1, 1) for name, stage in self._stages.items()}
        self._key_widths = {name: cache.keys.element_size() for name, cache in caches.items()}
        self.batches: list[Timed] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._runner, name)

    def run(self, batch: Batch) -> list[Any]:
        tasks = [task for task in batch.tasks if isinstance(task, Sequence)]
        audio, cost = self._worth(batch, tasks)
        started = self._clock()
        outputs = self._runner.run(batch)
        seconds = self._clock() - started
        if not batch.work.opens:
            self.batches.append(Timed(batch.stage, len(tasks), batch.work.steps, seconds, audio, cost))
        return outputs

    def _worth(self, batch: Batch, tasks: Rows[Sequence]) -> tuple[float, Cost | None]:
        """Seconds of sound that the batch advances its stage by, and the cost of one of its steps."""
        name, rows, steps = batch.stage, len(tasks), batch.work.steps
        stage = self._stages.get(name)
        if isinstance(stage, AutoregressiveStage):
            config = stage.config
            lengths = [length + steps / 2 for task in tasks for length in _lengths(task, stage)]
            mean = sum(lengths) / len(lengths)
            cost = step_cost(config, len(lengths), mean, self._widths[name], self._key_widths[name])
            return rows * steps / config.frame_rate, cost
        if name == FINE:
            config, plan = self._stages[FINE].config, tasks[0].plan
            window = plan.fine[tasks[0].done[FINE] // plan.levels]
            new = window.stop - window.known
            cost = pass_cost(config, rows, window.frames, new, self._widths[FINE])
            return rows * steps * new / config.frame_rate / plan.levels, cost
        if name == DECODE:
            cuts = [task.plan.cuts[task.done[DECODE]] for task in tasks]
            return sum(cut.end - cut.start for cut in cuts) / self._runner.model.codec.frame_rate, None
        return 0.0, None


def _lengths(task: Sequence, stage: AutoregressiveStage) -> list[int]:
    """Positions that each pass of the task's next step attends to."""
    plan = task.plan.coarse if stage.kind == COARSE else task.plan.semantic
    window, number = plan.at(task.done[stage.kind])
    whole = window.history + number
    without_prompt = whole - max(0, plan.windows[0].known - window.start)
    music = bool(stage.is_music(task.prompt.tokens[0][None]))
    guided = stage.config.music_guidance if music else stage.config.guidance
    return [whole, without_prompt] if guided else [whole]


class Cell:
    """One batch size on one device."""

    def __init__(self, model: AudioLM, rows: int, clock: Clock) -> None:
        runner = ModelRunner(model, slots=rows, max_seconds=SECONDS)
        self.rows, self._clock = rows, clock
        self.stopwatch = Stopwatch(runner, clock)
        self._engine = Engine(self.stopwatch, time.monotonic)
        self._seed = 0

    def fill(self) -> None:
        """Sequences for every row, of one prompt, which is encoded once."""
        prompt: Prompt | None = None
        for _ in range(self.rows):
            sequence = submit(self._engine, SECONDS, self._seed, PROMPT_SECONDS, prompt)
            prompt = sequence.prompt
            self._seed += 1

    def settle(self, budget_seconds: float) -> bool:
        """Step until every row has taken a coarse step side by side. False if that takes too long."""
        started = self._clock()
        while not any(b.stage == COARSE and b.rows == self.rows for b in self.stopwatch.batches):
            if self._clock() - started > budget_seconds:
                return False
            self.step()
        self.stopwatch.batches.clear()
        return True

    @property
    def busy(self) -> bool:
        return self._engine.has_work

    def step(self) -> None:
        if not self._engine.step():
            self.fill()

    def run(self, seconds: float) -> None:
        """A slice of the measurement."""
        started = self._clock()
        while self._clock() - started < seconds:
            self.step()


def measure(
    model: AudioLM,
    system: str,
    device: torch.device,
    batches: Rows[int],
    limits: Limits,
    clock: Clock,
    *,
    slices: int,
    slice_seconds: float,
    settle_seconds: float,
) -> list[dict[str, Any]]:
    """One row per batch size and stage; a batch size that does not fit is a row that says why."""
    rows: list[dict[str, Any]] = []
    cells = []
    for count in batches:
        head = {"system": system, "device": device.type, "batch": count}
        if device.type == "cpu" and cache_bytes(model, count) > 0.7 * available_memory():
            rows.append({**head, "skipped": "not enough memory"})
            continue
        cell = Cell(model, count, clock)
        if cell.settle(settle_seconds):
            cells.append(cell)
        else:
            rows.append({**head, "skipped": f"not under way within {settle_seconds:g} s"})
    for _ in range(slices):
        for cell in cells:
            cell.run(slice_seconds)
    for cell in cells:
        head = {"system": system, "device": device.type, "batch": cell.rows}
        for name in (SEMANTIC, COARSE, FINE, DECODE):
            timed = [b for b in cell.stopwatch.batches if b.stage == name]
            if name in (SEMANTIC, COARSE):
                timed = [b for b in timed if b.rows == cell.rows]
            if timed:
                rows.append({**head, **_row(model, name, timed, limits, device, clock)})
    return sorted(rows, key=lambda row: batches.index(row["batch"]))


def _row(
    model: AudioLM, name: str, timed: Rows[Timed], limits: Limits, device: torch.device, clock: Clock
) -> dict[str, Any]:
    spread = Spread.of([batch.seconds / batch.steps for batch in timed])
    seconds, steps = sum(b.seconds for b in timed), sum(b.steps for b in timed)
    row: dict[str, Any] = {
        "stage": name,
        "unit": {FINE: PASSES, DECODE: "cuts"}.get(name, "steps"),
        "rows": sum(b.rows for b in timed) / len(timed),
        "step_seconds": asdict(spread),
        "spread": spread.width,
        "steps_per_second": 1 / spread.median,
        "audio_seconds_per_second": sum(b.audio_seconds for b in timed) / seconds,
    }
    costs = [(b.cost, b.steps) for b in timed if b.cost is not None]
    if not costs:
        return row
    mean = Cost(
        sum(cost.num_bytes * n for cost, n in costs) / steps,
        sum(cost.operations * n for cost, n in costs) / steps,
    )
    kind, _ = weight_type({s.kind: s for s in (model.semantic, model.coarse, model.fine)}[name])
    near = max(limits.bandwidth, read_bandwidth(int(mean.num_bytes), device, clock))
    return row | {
        "weights": kind,
        "bytes_per_step": mean.num_bytes,
        "operations_per_step": mean.operations,
        "bandwidth_at_this_size": near,
        "of_limit": limits.seconds(mean, kind, near) * steps / seconds,
        "of_memory_limit": limits.seconds(mean, kind) * steps / seconds,
        "bound_by": "operations"
        if limits.seconds(Cost(0, mean.operations), kind) > mean.num_bytes / near
        else "bytes",
    }
