"""The engine: schedule a batch, run it, commit what it made.

Decisions held here: a batch that raises commits nothing and is bisected until only the offender fails; out of memory
halves the budget and a single row is tried once more; every exit of a task passes through `finish`, which is
idempotent. Owned by one thread, which may have helpers for windowed batches but commits everything itself; knows no
asyncio and no tensors (those are the runner's).
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Mapping
from typing import TYPE_CHECKING, Any, Protocol

from model.engine.budget import Pace, Rates, RowBudget
from model.engine.counters import Counters
from model.engine.errors import (
    Cancelled,
    DeadlineExceeded,
    EngineFailed,
    EngineStopped,
    OutOfMemory,
    StageFailed,
)
from model.engine.helpers import Helpers
from model.engine.plan import Plan
from model.engine.scheduler import Batch, Scheduler, StageLimits
from model.engine.sequence import Reason, Task, WindowJob
from model.engine.work import DECODE

if TYPE_CHECKING:
    from model.detector import Detector

logger = logging.getLogger(__name__)


class Runner(Protocol):
    """Carries out batches. What a `run` leaves behind is overwritten when the same work runs again."""

    slots: int
    stages: Mapping[str, StageLimits]
    windowed: Collection[str]  # stages that may run on another thread beside the others
    sample_rate: int
    max_prompt_seconds: float
    card: Mapping[str, Any]  # the bundle's card, plain JSON
    detector: (
        Detector | None
    )  # what the bundle has to tell our sound by; its windows are a stage of their own

    def plan(self, prompt_samples: int, seconds: float) -> Plan:
        """Every length of a continuation. Pure; any thread may call it. Raises GenerationError for nonsense."""
        ...

    def run(self, batch: Batch) -> list[Any]:
        """Outputs per task: encoded tokens (encode), sound [n] (decode), results (window jobs), None otherwise."""
        ...

    def rows_worked_on(self, batch: Batch) -> int:
        """Rows the device computed for the batch that ran last: its tasks, and what padded it."""
        ...

    def device_memory(self) -> Mapping[str, int]:
        """Bytes by state (allocated, reserved) on a device with a memory of its own. Any thread may ask."""
        ...

    def leave(self, task: Task) -> None:
        """The task has ended: drop what is kept for it."""
        ...

    def release_memory(self) -> None:
        """Give cached memory back to the device."""
        ...

    def is_out_of_memory(self, error: Exception) -> bool: ...

    def is_fatal(self, error: Exception) -> bool:
        """The device can no longer be used (a poisoned CUDA context)."""
        ...


class Engine:
    """Runs tasks to their end, one batch per `step`."""

    def __init__(
        self,
        runner: Runner,
        clock: Callable[[], float],
        *,
        rates: Rates | None = None,
        patience: int = 4,
        aging_seconds: float = 10.0,
        helpers: int = 0,
    ) -> None:
        self.runner = runner
        self.clock = clock
        self.rates = rates or Rates()
        self.pace = Pace()
        self.budget = RowBudget()
        self.counters = Counters()
        self.scheduler = Scheduler(
            runner.stages, runner.slots, clock, patience=patience, aging_seconds=aging_seconds
        )
        self.helpers = Helpers(helpers, runner.run, clock) if helpers else None

    @property
    def has_work(self) -> bool:
        return self.scheduler.has_work

    def submit(self, task: Task) -> None:
        """Take in a task. It ends through its sink, whatever happens."""
        task.submitted_at = self.clock()
        self.scheduler.add(task)

    def step(self) -> bool:
        """Drop what must end, run one batch. False when there was nothing to run."""
        self._collect()
        self.pace.look(self.clock(), busy=self.has_work)
        for task, reason in self.scheduler.overdue():
            self.finish(task, reason)
        for task in self.scheduler.admit():
            assert task.started_at is not None
            task.stage_seconds["queue"] = task.started_at - task.submitted_at
        self._employ_helpers()
        batch = self.scheduler.next_batch(self._max_rows)
        if batch is None:
            return self._collect(block=True)
        self._attempt(batch)
        return True

    def finish(self, task: Task, reason: Reason, error: Exception | None = None) -> None:
        """End a task: free its slot, tell its sink. Only the first call for a task does anything."""
        while self.scheduler.is_under_way(task):
            self._collect(block=True)
        if task.finished:
            return
        task.reason = reason
        self.scheduler.remove(task)
        self.runner.leave(task)
        self.counters.finished[reason] += 1
        results = task.results if isinstance(task, WindowJob) and reason is Reason.DONE else []
        task.sink.end(reason, error or _error_of(task, reason), results)

    def shut_down(self, error: Exception | None = None) -> None:
        """End every task that is left."""
        if self.helpers is not None:
            self.helpers.close()
            self.scheduler.end_all()
        for task in self.scheduler.tasks():
            self.finish(task, Reason.STOPPED, error)

    def _max_rows(self, stage: str) -> int:
        return self.budget.rows(self.runner.stages[stage].max_rows)

    def _employ_helpers(self) -> None:
        """Give helpers what windowed work there is, as far as they have room."""
        while self.helpers is not None and self.helpers.has_room:
            batch = self.scheduler.next_batch(self._max_rows, only=self.runner.windowed)
            if batch is None:
                return
            self.scheduler.begin(batch)
            self.helpers.start(batch)

    def _collect(self, *, block: bool = False) -> bool:
        """Take in what helpers have done. False when there was nothing."""
        outcomes = [] if self.helpers is None else self.helpers.finished(block=block)
        for outcome in outcomes:
            self.scheduler.end(outcome.batch)
        for outcome in outcomes:
            if outcome.error is not None:
                self._failed(outcome.batch, outcome.error, again=False)
            else:
                self._succeeded(outcome.batch, outcome.outputs, outcome.seconds)
        return bool(outcomes)

    def _attempt(self, batch: Batch, *, again: bool = False) -> None:
        started = self.clock()
        try:
            outputs = self.runner.run(batch)
        except Exception as error:
            self._failed(batch, error, again=again)
        else:
            self._succeeded(batch, outputs, self.clock() - started)

    def _failed(self, batch: Batch, error: Exception, *, again: bool) -> None:
        self.counters.failed_batches += 1
        if self.runner.is_fatal(error):
            raise EngineFailed(f"{batch.stage}: {type(error).__name__}: {error}") from error
        if self.runner.is_out_of_memory(error):
            self._out_of_memory(batch, error, again=again)
        else:
            self._bisect(batch, error)

    def _succeeded(self, batch: Batch, outputs: list[Any], seconds: float) -> None:
        self.budget.succeeded()
        self._account(batch, seconds)
        assert len(outputs) == len(batch.tasks)
        for task, output in zip(batch.tasks, outputs, strict=True):
            self._commit(task, batch, output, seconds)

    def _out_of_memory(self, batch: Batch, error: Exception, *, again: bool) -> None:
        self.counters.out_of_memory += 1
        self.budget.halve()
        self.runner.release_memory()
        if len(batch.tasks) > 1:
            for half in batch.halves():
                self._attempt(half)
        elif not again:
            self._attempt(batch, again=True)
        else:
            failure = OutOfMemory(f"{batch.stage} does not fit into memory, even alone")
            failure.__cause__ = error
            self.finish(batch.tasks[0], Reason.FAILED, failure)

    def _bisect(self, batch: Batch, error: Exception) -> None:
        if len(batch.tasks) > 1:
            for half in batch.halves():
                self._attempt(half)
            return
        task = batch.tasks[0]
        logger.error(
            "request %s failed in %s", task.id, batch.stage, exc_info=error, extra={"request_id": task.id}
        )
        failure = StageFailed(f"{batch.stage} failed for this request")
        failure.__cause__ = error
        self.finish(task, Reason.FAILED, failure)

    def _account(self, batch: Batch, seconds: float) -> None:
        work, rows, counters = batch.work, len(batch.tasks), self.counters
        self.scheduler.ran(batch.stage, seconds)
        self.pace.did(seconds)
        self.rates.measured(work.kind, rows, work.steps * work.size, seconds)
        counters.step_seconds[batch.stage].add(seconds)
        counters.batch_rows[batch.stage].add(rows)
        counters.padding[batch.stage] += self.runner.rows_worked_on(batch) - rows
        counters.units[batch.stage] += rows * work.steps

    def _commit(self, task: Task, batch: Batch, output: Any, seconds: float) -> None:
        task.stage_seconds[batch.stage] = task.stage_seconds.get(batch.stage, 0.0) + seconds
        task.advance(batch.stage, batch.work.steps, output)
        if batch.stage == DECODE:
            self.counters.samples += len(output)
        if task.complete:
            self.finish(task, Reason.DONE)


def _error_of(task: Task, reason: Reason) -> Exception | None:
    match reason:
        case Reason.CANCELLED:
            return Cancelled("the request was cancelled")
        case Reason.EXPIRED:
            return DeadlineExceeded("the request's deadline passed before it was done")
        case Reason.STOPPED:
            return EngineStopped("the engine stopped before the request was done")
        case _:
            return None
