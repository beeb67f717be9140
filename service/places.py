"""Room in the engine for one request, held from its admission until it has ended."""

from __future__ import annotations

from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import numpy.typing as npt

from model.audiolm import GenerationSettings
from model.engine.errors import Unavailable
from model.engine.sequence import Prompt, Sequence, Sound, WindowJob
from model.engine.work import ENCODE
from service.tickets import Ticket, WindowTicket

if TYPE_CHECKING:
    from service.worker import Worker


class Place:
    """Room for one request, from before its upload is decoded until its tickets have ended. A context manager:
    leaving it cancels whatever has not ended."""

    def __init__(
        self,
        worker: Worker,
        seconds: float,
        num_continuations: int,
        cost: dict[str, int],
        stage: str | None = None,
    ) -> None:
        self.stage = stage  # of a job of windows; None for continuations
        self._worker = worker
        self._seconds = seconds
        self._num_continuations = num_continuations
        self._cost = cost  # of one continuation, with the longest prompt
        self._tickets: list[Ticket | WindowTicket] = []
        self._open = True

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()

    def submit(
        self,
        waveform: Sound,
        settings: GenerationSettings,
        *,
        request_id: str,
        deadline: float = float("inf"),
        priority: int = 1,
    ) -> list[Ticket]:
        """Start the continuations of `waveform` [N], one ticket each; the i-th has seed `settings.seed + i`.

        `deadline` in seconds of `Worker.now`. Raises GenerationError for lengths that the model cannot use, and
        EngineStopped or EngineFailed if the engine ended since admission."""
        assert self._open and not self._tickets and settings.seconds <= self._seconds
        runner = self._worker.engine.runner
        plan = runner.plan(len(waveform), settings.seconds)
        prompt = Prompt(np.ascontiguousarray(waveform, dtype=np.float32))
        tickets = []
        for i in range(self._num_continuations):
            ticket = Ticket(self._worker.poke)
            ticket.task = Sequence(
                id=request_id if self._num_continuations == 1 else f"{request_id}/{i}",
                sink=ticket,
                priority=priority,
                deadline=deadline,
                prompt=prompt,
                plan=plan,
                seed=(settings.seed + i) % 2**63,
                temperature=settings.temperature,
                top_k=settings.top_k,
                top_p=settings.top_p,
            )
            tickets.append(ticket)
        self._start(tickets)
        return tickets

    def submit_windows(
        self,
        stage: str,
        windows: list[npt.NDArray[Any]],
        *,
        request_id: str,
        deadline: float = float("inf"),
        priority: int = 1,
    ) -> WindowTicket:
        """Run `windows` through a windowed stage of the runner; the ticket's result has one value per window."""
        assert self._open and not self._tickets and windows and stage == self.stage
        ticket = WindowTicket(self._worker.poke)
        ticket.task = WindowJob(
            id=request_id, sink=ticket, priority=priority, deadline=deadline, stage=stage, windows=windows
        )
        self._start([ticket])
        return ticket

    def release(self) -> None:
        """Give the room back. Idempotent; cancels tickets that have not ended."""
        self._open = False
        for ticket in self._tickets:
            ticket.cancel()
        self._worker.forget(self)

    @property
    def open_tickets(self) -> list[Ticket | WindowTicket]:
        """What it has in the engine's hands."""
        return [ticket for ticket in self._tickets if not ticket.done]

    @property
    def count(self) -> int:
        """Continuations, or jobs of windows, that this place still stands for."""
        if not self._tickets or self.stage is not None:  # beside its windows, a clip takes work elsewhere
            return self._num_continuations if self._open else 0
        return sum(not ticket.done for ticket in self._tickets)

    def cost(self) -> dict[str, int]:
        """Cost still to come, per kind of work."""
        total: dict[str, int] = {}
        if not self._tickets:
            parts = [self._cost] * self.count
        else:
            parts = [ticket.task.remaining() for ticket in self._tickets if not ticket.done]
        for part in parts:
            for kind, cost in part.items():
                total[kind] = cost if kind == ENCODE else total.get(kind, 0) + cost  # encoded once for all
        return total

    def _start(self, tickets: list[Ticket] | list[WindowTicket]) -> None:
        self._tickets.extend(tickets)
        try:
            self._worker.post([ticket.task for ticket in tickets])
        except Unavailable:
            self._tickets.clear()
            raise
