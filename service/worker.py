"""The engine thread and its bridge to asyncio.

One thread owns the engine and with it every tensor; the event loop hands it tasks through an inbox and receives sound,
results and errors by `call_soon_threadsafe`. Admission happens here, on the event loop, before an upload is decoded: a
`Place` is held from then until its tickets have ended. Every ticket ends: with its sound, an error, a deadline, a
cancel or a shutdown. Knows no HTTP and no tensors; sound is `float32 [N]` at the model's rate.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections import defaultdict
from collections.abc import Callable
from typing import Literal

from model.engine.engine import Engine
from model.engine.errors import Draining, EngineFailed, EngineStopped, NotReady, Overloaded, Unavailable
from model.engine.sequence import Task
from service.appointments import Appointments
from service.gauges import Gauges
from service.places import Place
from service.tickets import Ticket, WindowTicket

logger = logging.getLogger(__name__)

State = Literal["starting", "ready", "draining", "stopped", "failed"]
IDLE_SECONDS = 1.0  # an idle engine thread still beats this often


class Worker:
    """Owns the engine thread. Everything but the thread's own loop is called on the event loop.

    `build` makes the engine, warm, inside the thread. At most `max_queue_size` continuations are accepted at a time,
    waiting and running together, at most `max_window_jobs` jobs for each windowed stage, and `max_backlog_seconds` of
    work; a stage with a guaranteed share of the time and the continuations each count their own wait, so a flood of
    the one does not turn the other away. `on_failure` is called on the event loop when the thread ends with an error:
    the process should stop accepting, and exit non-zero."""

    def __init__(
        self,
        build: Callable[[], Engine],
        *,
        max_queue_size: int = 64,
        max_window_jobs: int = 16,
        max_backlog_seconds: float = 60.0,
        stall_seconds: float = 30.0,
        on_failure: Callable[[Exception], None] | None = None,
    ) -> None:
        self.max_queue_size = max_queue_size
        self.max_window_jobs = max_window_jobs
        self.max_backlog_seconds = max_backlog_seconds
        self.stall_seconds = stall_seconds
        self.failure: Exception | None = None
        self._build = build
        self._on_failure = on_failure
        self._engine: Engine | None = None
        self._state: State = "starting"
        self._places: set[Place] = set()
        self._appointments = defaultdict[str | None, Appointments](lambda: Appointments(max_backlog_seconds))
        self._inbox: list[Task] = []
        self._lock = threading.Lock()  # guards _inbox and _closed
        self._closed = False
        self._poke = threading.Event()
        self._stopping = False
        self._beat = time.monotonic()
        self._thread = threading.Thread(target=self._run, name="engine", daemon=True)

    # life

    def start(self) -> None:
        """Start the thread and return at once. Call on the running event loop."""
        self._loop = asyncio.get_running_loop()
        self._settled = asyncio.Event()  # ready or failed
        self._ended = asyncio.Event()
        self._thread.start()

    async def ready(self) -> None:
        """Return when the engine is warm. Raises EngineFailed if it could not be built."""
        await self._settled.wait()
        if self.failure is not None:
            raise EngineFailed(f"the engine did not start: {self.failure}") from self.failure

    async def drain(self, timeout: float | None = None) -> bool:
        """Accept nothing new and wait for what was accepted. True when all of it has ended in time."""
        if self._state in ("starting", "ready"):
            self._state = "draining"
        deadline = None if timeout is None else self.now() + timeout
        while any(place.count for place in self._places) and not self._ended.is_set():
            if deadline is not None and self.now() >= deadline:
                return False
            await asyncio.sleep(0.01)
        return True

    async def stop(self) -> None:
        """End what is left with EngineStopped, and the thread with it. Idempotent."""
        if self._state != "failed":
            self._state = "stopped"
        self._stopping = True
        self.poke()
        if self._thread.ident is not None:
            await self._ended.wait()
            await asyncio.to_thread(self._thread.join)

    @property
    def state(self) -> State:
        return self._state

    @property
    def alive(self) -> bool:
        """The thread runs and is not stuck (livez)."""
        return self._thread.is_alive() and (self._engine is None or self.heartbeat_age < self.stall_seconds)

    @property
    def heartbeat_age(self) -> float:
        """Seconds since the engine thread last finished a step."""
        return time.monotonic() - self._beat

    @staticmethod
    def now() -> float:
        """Seconds of the clock that deadlines are given in."""
        return time.monotonic()

    # work

    @property
    def engine(self) -> Engine:
        """The built engine, for its description (`runner.card`, `runner.plan`); its tensors belong to the thread."""
        if self._engine is None:
            raise NotReady("the model is still loading", retry_after=5.0)
        return self._engine

    def admit(self, seconds: float, num_continuations: int = 1, *, deadline: float = float("inf")) -> Place:
        """Room for `num_continuations` of `seconds` each, or Overloaded, NotReady, Draining, EngineFailed."""
        self._check_accepting()
        engine = self.engine
        rate = engine.runner.sample_rate
        plan = engine.runner.plan(round(engine.runner.max_prompt_seconds * rate), seconds)
        place = Place(self, seconds, num_continuations, plan.cost())
        self._check_room(place, deadline)
        self._places.add(place)
        return place

    def admit_windows(self, stage: str, num_windows: int, *, deadline: float = float("inf")) -> Place:
        """Room for a job of about `num_windows` windows of `stage`. Raises like `admit`."""
        self._check_accepting()
        place = Place(self, 0.0, 1, {stage: num_windows}, stage)
        self._check_room(place, deadline)
        self._places.add(place)
        return place

    @property
    def open_continuations(self) -> int:
        """Accepted and not yet ended."""
        return self._open_of(None)

    def open_jobs(self, stage: str) -> int:
        """Jobs of windows of `stage`, accepted and not yet ended."""
        return self._open_of(stage)

    @property
    def backlog_seconds(self) -> float:
        """Estimated seconds until everything accepted is done."""
        rows = max(self.open_continuations, 1)
        return sum(self._seconds_of(place, rows) for place in self._places)

    @property
    def open_tickets(self) -> list[Ticket | WindowTicket]:
        """Continuations and jobs of windows in the engine's hands, waiting or running."""
        return [ticket for place in self._places for ticket in place.open_tickets]

    def gauges(self) -> Gauges:
        return Gauges.of(self.engine, backlog_seconds=self.backlog_seconds, heartbeat_age=self.heartbeat_age)

    # for places and tickets

    def post(self, tasks: list[Task]) -> None:
        """Hand tasks to the thread. Raises EngineStopped or EngineFailed once it has ended."""
        with self._lock:
            if self._closed:
                raise self._ended_error()
            self._inbox.extend(tasks)
        self.poke()

    def poke(self) -> None:
        """Wake the thread: there is something to see."""
        self._poke.set()

    def forget(self, place: Place) -> None:
        self._places.discard(place)

    def _check_accepting(self) -> None:
        match self._state:
            case "starting":
                raise NotReady("the model is still loading", retry_after=5.0)
            case "draining":
                raise Draining("shutting down", retry_after=10.0)
            case "stopped" | "failed":
                raise self._ended_error()

    def _check_room(self, place: Place, deadline: float) -> None:
        waiting, now = self._open_of(place.stage), self.now()
        wait, backlog = self._wait_of(place), self.backlog_seconds
        limit = self.max_queue_size if place.stage is None else self.max_window_jobs
        if waiting + place.count > limit:
            reason = f"{waiting} requests are in the queue"
        elif waiting and wait > self.max_backlog_seconds:
            reason = f"{backlog:.1f} s of work are in the queue"
        elif waiting and now + wait > deadline:
            reason = f"{backlog:.1f} s of work are before this request's deadline"
        else:
            return
        line = min(self.max_backlog_seconds, deadline - now)
        surplus = (waiting + place.count - limit / 2) / max(waiting, 1)  # of requests, as part of what waits
        room_in = min(backlog, wait, max(wait - line / 2, surplus * backlog))  # half of what may wait is done
        own = self._seconds_of(place, max(waiting, 1))
        raise Overloaded(reason, retry_after=self._appointments[place.stage].give(now, room_in, own))

    def _open_of(self, stage: str | None) -> int:
        return sum(place.count for place in self._places if place.stage == stage)

    def _wait_of(self, new: Place) -> float:
        """Estimated seconds until `new` is done: after all of the work, or after its own kind's at the part of the
        time that is its own whatever the others bring."""
        rows = self.open_continuations + (new.count if new.stage is None else 1)
        shares = {stage: limits.share for stage, limits in self.engine.runner.stages.items() if limits.share}
        own = everything = 0.0
        for place in (*self._places, new):
            seconds = self._seconds_of(place, rows)
            everything += seconds
            if place.stage == new.stage or {place.stage, new.stage}.isdisjoint(shares):
                own += seconds
        part = shares.get(new.stage or "", 1.0 - sum(shares.values()))
        return min(everything, own / part)

    def _seconds_of(self, place: Place, rows: int) -> float:
        """Estimated seconds of work of `place` where `rows` continuations share the engine."""
        engine = self.engine
        return engine.rates.estimate(place.cost(), min(rows, engine.runner.slots)) / engine.pace.value

    def _ended_error(self) -> Unavailable:
        if self.failure is not None:
            return EngineFailed(f"the engine failed: {self.failure}", retry_after=30.0)
        return EngineStopped("the engine has stopped", retry_after=10.0)

    # the thread

    def _run(self) -> None:
        engine: Engine | None = None
        try:
            engine = self._build()
            self._engine = engine
            self._beat = time.monotonic()
            self._tell(self._became_ready)
            self._work(engine)
        except Exception as error:
            logger.exception("the engine thread ended")
            self.failure = error
        with self._lock:
            self._closed = True
            left, self._inbox = self._inbox, []
        if engine is not None:
            for task in left:
                engine.submit(task)
            engine.shut_down(None if self.failure is None else self._ended_error())
        self._tell(self._became_ended)

    def _work(self, engine: Engine) -> None:
        while not self._stopping:
            self._poke.clear()
            with self._lock:
                arrived, self._inbox = self._inbox, []
            for task in arrived:
                engine.submit(task)
            worked = engine.step()
            self._beat = time.monotonic()
            if not worked and not self._stopping:
                self._poke.wait(IDLE_SECONDS)

    def _tell(self, callback: Callable[[], None]) -> None:
        try:
            self._loop.call_soon_threadsafe(callback)
        except RuntimeError:  # the loop is closed: nobody listens any more
            logger.debug("the event loop is closed")

    def _became_ready(self) -> None:
        if self._state == "starting":
            self._state = "ready"
        self._settled.set()

    def _became_ended(self) -> None:
        if self.failure is not None:
            self._state = "failed"
            if self._on_failure is not None:
                self._on_failure(self.failure)
        self._settled.set()
        self._ended.set()
