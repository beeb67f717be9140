"""Which tasks run next, and together.

Decisions held here: waiting sequences leave a heap in the order (priority, deadline, arrival), except that whoever
waited `aging_seconds` goes first; a sequence keeps one slot from admission to its end; later stages run before earlier
ones (sound leaves sooner, memory stays low) until an earlier stage was passed over `patience` times; windows that
somebody waits for to hear anything go before all of that, and before others' later windows; a stage waits for tasks
that only its feeders hold back, because one more row costs little; a kind of job with a share gets that part of the
time while it has work; windowed stages may linger a moment for company while other work is at hand.
Knows no tensors, no tokens and no clock but the one it is given.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, replace

from model.engine.sequence import Reason, Task
from model.engine.work import Work

FED_PATIENCE = 8  # times `patience`: how long a stage waits for what its feeders hold back


@dataclass(frozen=True)
class StageLimits:
    """How much of one stage goes into one batch."""

    max_rows: int  # tasks side by side
    max_steps: int = 1  # units per task and batch
    linger_seconds: float = (
        0.0  # a batch that is not full may wait this long for company while other work is at hand
    )
    share: float = 0.0  # part of the time guaranteed while there is work, 0 for "in turn"
    fed_by: tuple[
        str, ...
    ] = ()  # stages to run first while some task has work there and none here: fuller batches


@dataclass(frozen=True)
class Batch:
    """Tasks that do the same work side by side, `work.steps` units each."""

    work: Work
    tasks: tuple[Task, ...]

    @property
    def stage(self) -> str:
        return self.work.stage

    def halves(self) -> tuple[Batch, Batch]:
        middle = len(self.tasks) // 2
        assert middle, "a batch of one has no halves"
        return Batch(self.work, self.tasks[:middle]), Batch(self.work, self.tasks[middle:])


_Order = tuple[int, float, int]


def _order(task: Task) -> _Order:
    return task.priority, task.deadline, task.arrival


def _rank(entry: tuple[Task, Work]) -> tuple[bool, bool, _Order]:
    """Of tasks that are ready in one stage."""
    task, work = entry
    return not work.opens, not work.awaited, _order(task)


class Scheduler:
    """Holds every unfinished task. `stages` in the order of the pipeline, earliest first; names are free."""

    def __init__(
        self,
        stages: Mapping[str, StageLimits],
        slots: int,
        clock: Callable[[], float],
        *,
        patience: int = 4,
        aging_seconds: float = 10.0,
    ) -> None:
        assert slots > 0 and sum(limits.share for limits in stages.values()) < 1
        self.stages = dict(stages)
        self.slots = slots
        self.free_slots = list(range(slots))[::-1]
        self.patience = patience
        self.aging_seconds = aging_seconds
        self._clock = clock
        self._waiting: list[tuple[_Order, Task]] = []
        self._running: dict[int, Task] = {}  # by arrival: insertion order is admission order
        self._passed_over = dict.fromkeys(stages, 0)
        self._ready_since: dict[str, float] = {}
        self._credit = dict.fromkeys(stages, 0.0)  # seconds a stage with a share is owed
        self._shared_ready: set[str] = set()
        self._under_way: set[tuple[int, str]] = set()  # owner and stage of what helpers work on

    @property
    def num_waiting(self) -> int:
        return len(self._waiting)

    @property
    def num_running(self) -> int:
        return len(self._running)

    @property
    def has_work(self) -> bool:
        return bool(self._waiting or self._running)

    def tasks(self) -> list[Task]:
        return [task for _, task in self._waiting] + list(self._running.values())

    def add(self, task: Task) -> None:
        """Take a task in. One that needs no slot runs from now on."""
        if task.needs_slot:
            heapq.heappush(self._waiting, (_order(task), task))
        else:
            self._start(task)

    def remove(self, task: Task) -> None:
        """Forget a task that ended, and free its slot."""
        if self._running.pop(task.arrival, None) is not None:
            slot = getattr(task, "slot", None)
            if slot is not None:
                self.free_slots.append(slot)
                task.slot = None  # type: ignore[attr-defined]
        else:
            self._waiting = [entry for entry in self._waiting if entry[1] is not task]
            heapq.heapify(self._waiting)

    def overdue(self) -> list[tuple[Task, Reason]]:
        """Tasks that must end now, waiting or running, and why; not those that a helper works on."""
        now = self._clock()
        late = [task for task in self.tasks() if task.cancelled or task.deadline <= now]
        return [
            (task, Reason.CANCELLED if task.cancelled else Reason.EXPIRED)
            for task in late
            if not self.is_under_way(task)
        ]

    def admit(self) -> list[Task]:
        """Give free slots to waiting sequences; returns those that got one."""
        admitted = []
        while self._waiting and self.free_slots:
            task = self._pop_waiting()
            task.slot = self.free_slots.pop()  # type: ignore[attr-defined]
            self._start(task)
            admitted.append(task)
        return admitted

    def begin(self, batch: Batch) -> None:
        """A helper takes `batch`: nothing of its tasks' owners is offered for the batch's stage until `end`."""
        self._under_way.update((task.owner_of(batch.stage), batch.stage) for task in batch.tasks)

    def end(self, batch: Batch) -> None:
        self._under_way.difference_update((task.owner_of(batch.stage), batch.stage) for task in batch.tasks)

    def end_all(self) -> None:
        """The helpers are gone, with all they had."""
        self._under_way.clear()

    def is_under_way(self, task: Task) -> bool:
        """Whether a helper works on the task, or for it."""
        return any((task.owner_of(stage), stage) in self._under_way for stage in self.stages)

    def next_batch(
        self, max_rows: Callable[[str], int] | None = None, only: Collection[str] | None = None
    ) -> Batch | None:
        """The batch to run now, in the stages `only` if given; None when no task can do anything there. `max_rows` may
        lower a stage's rows (memory)."""
        ready = self._ready()
        if only is not None:
            ready = {stage: entries for stage, entries in ready.items() if stage in only}
        stage = self._choose(ready)
        if stage is None:
            return None
        for name in ready:
            self._passed_over[name] = 0 if name == stage else self._passed_over[name] + 1
        rows = self.stages[stage].max_rows
        if max_rows is not None:
            rows = max(1, min(rows, max_rows(stage)))
        works = sorted(ready[stage], key=_rank)
        first = works[0][1]
        if first.opens:
            rows = 1  # a prefill is bound by arithmetic: company would gain nothing and delay everyone
        chosen = [(task, work) for task, work in works if work.shape == first.shape][:rows]
        self._ready_since.pop(stage, None)
        steps = min(self.stages[stage].max_steps, *(work.steps for _, work in chosen))
        return Batch(replace(first, steps=steps), tuple(task for task, _ in chosen))

    def ran(self, stage: str, seconds: float) -> None:
        """Account for `seconds` spent in `stage`: what others were owed of it, and what it was owed."""
        for name in self._shared_ready:
            if name != stage:
                share = self.stages[name].share
                self._credit[name] += seconds * share / (1 - share)
        if stage in self._shared_ready:
            self._credit[stage] = max(self._credit[stage], 0.0) - seconds

    def _start(self, task: Task) -> None:
        task.started_at = self._clock()
        self._running[task.arrival] = task

    def _pop_waiting(self) -> Task:
        oldest = min(self._waiting, key=lambda entry: entry[1].arrival)
        if self._clock() - oldest[1].submitted_at >= self.aging_seconds:
            self._waiting.remove(oldest)
            heapq.heapify(self._waiting)
            return oldest[1]
        return heapq.heappop(self._waiting)[1]

    def _ready(self) -> dict[str, list[tuple[Task, Work]]]:
        ready: dict[str, list[tuple[Task, Work]]] = {}
        for task in self._running.values():
            for work in task.works():
                if (task.owner_of(work.stage), work.stage) in self._under_way:
                    continue
                ready.setdefault(work.stage, []).append((task, work))
        now = self._clock()
        self._ready_since = {stage: self._ready_since.get(stage, now) for stage in ready}
        self._shared_ready = {stage for stage in ready if self.stages[stage].share}
        for stage in self.stages:
            if stage not in self._shared_ready:
                self._credit[stage] = 0.0  # a share is no savings account
        return ready

    def _choose(self, ready: Mapping[str, list[tuple[Task, Work]]]) -> str | None:
        shared = self._shared_ready & ready.keys()
        owed = [stage for stage in shared if self._credit[stage] > 0]
        if owed:
            return max(owed, key=lambda stage: self._credit[stage])
        in_turn = [stage for stage in reversed(self.stages) if stage in ready and stage not in shared]
        for stage in in_turn:
            if any(work.awaited for _, work in ready[stage]) and not self._lingers(stage, ready):
                return stage
        held = {stage for stage in in_turn if self._is_fed(stage, ready)}
        for stage in reversed(in_turn):
            if stage not in held and self._passed_over[stage] >= self.patience:
                return stage
        for stage in in_turn:
            if stage not in held and not self._lingers(stage, ready):
                return stage
        leftovers: Iterable[str] = in_turn or shared
        return next(iter(leftovers), None)

    def _is_fed(self, stage: str, ready: Mapping[str, list[tuple[Task, Work]]]) -> bool:
        if self._passed_over[stage] >= FED_PATIENCE * self.patience:
            return False
        here = {task.arrival for task, _ in ready[stage]}
        feeders = [feeder for feeder in self.stages[stage].fed_by if feeder in ready]
        return any(task.arrival not in here for feeder in feeders for task, _ in ready[feeder])

    def _lingers(self, stage: str, ready: Mapping[str, list[tuple[Task, Work]]]) -> bool:
        limits = self.stages[stage]
        if len(ready) == 1 or len(ready[stage]) >= limits.max_rows:
            return False
        return self._clock() - self._ready_since[stage] < limits.linger_seconds
