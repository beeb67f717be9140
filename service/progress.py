"""How far a request is, for a caller who waits for it: told by the id that the caller gave it.

A place in the queue and, per stage, the part of the work that is done; nothing about other callers' requests, and no
estimate. Knows tickets, no HTTP.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

from pydantic import BaseModel, Field

from model.engine.sequence import Sequence, Task, WindowJob
from model.engine.work import STAGES
from service.tickets import Ticket, WindowTicket


class ProgressAnswer(BaseModel):
    """The answer of /v1/progress."""

    state: Literal["unknown", "queued", "running"] = Field(
        description="unknown: not accepted yet, ended, or never seen by this process."
    )
    place: int = Field(default=0, description="1 for the next to start; 0 unless queued.")
    stages: dict[str, float] = Field(
        default={}, description="Part of each stage that is done, 0 to 1; empty unless running."
    )


def progress_of(request_id: str, tickets: Iterable[Ticket | WindowTicket]) -> ProgressAnswer:
    """Of one of `tickets`. Continuations of one request report under `request_id/0`, `request_id/1` and so on."""
    tasks: list[Sequence | WindowJob] = [ticket.task for ticket in tickets]
    own = next((task for task in tasks if task.id == request_id), None)
    if own is None:
        return ProgressAnswer(state="unknown")
    if own.started_at is None:
        before = sum(task.started_at is None and _order(task) < _order(own) for task in tasks)
        return ProgressAnswer(state="queued", place=before + 1)
    return ProgressAnswer(state="running", stages=_stages(own))


def _order(task: Task) -> tuple[int, float, int]:
    return task.priority, task.deadline, task.arrival


def _stages(task: Sequence | WindowJob) -> dict[str, float]:
    if isinstance(task, WindowJob):
        return {task.stage: len(task.results) / len(task.windows)}
    total, left = task.plan.cost(), task.remaining()
    return {stage: 1 - left[stage] / total[stage] for stage in STAGES if total.get(stage)}
