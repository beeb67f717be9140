"""The server process: uvicorn that drains before it stops.

The first SIGTERM or SIGINT lets the worker finish what it accepted while the sockets stay open, so that new callers
are told 503 and where to look, not refused a connection; then uvicorn ends as always. A second signal ends at once.
If the engine fails for good, the process ends with an error, for an orchestrator to restart it.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Callable
from functools import partial
from types import FrameType

import uvicorn
from starlette.types import ASGIApp

from service.connection import HEAD_SECONDS, Connection
from service.worker import Worker

logger = logging.getLogger(__name__)

KEEP_ALIVE_SECONDS = 30


class Server(uvicorn.Server):
    """`announce(host, port)` is called once the sockets are open."""

    def __init__(
        self,
        config: uvicorn.Config,
        worker: Worker,
        drain_seconds: float,
        announce: Callable[[str, int], None],
    ) -> None:
        super().__init__(config)
        self.worker = worker
        self.drain_seconds = drain_seconds
        self.announce = announce
        self._loop: asyncio.AbstractEventLoop | None = None
        self._drain_task: asyncio.Task[None] | None = None
        self._draining = False
        self._told_ready = False

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        self._loop = asyncio.get_running_loop()
        await super().startup(sockets)
        if self.started:
            host, port = self.servers[0].sockets[0].getsockname()[:2]
            self.announce(host, port)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """uvicorn's own would end with the signal's status; a drained server ends with 0."""
        if self._loop is None or self._draining:
            self.force_exit = self.should_exit = True
            return
        self._draining = True
        self._loop.call_soon_threadsafe(self._start_drain)

    async def on_tick(self, counter: int) -> bool:
        if self.worker.failure is not None:
            self.should_exit = True
        if self.worker.state == "ready" and not self._told_ready:
            self._told_ready = True
            logger.info("ready")
        return await super().on_tick(counter)

    def _start_drain(self) -> None:
        self._drain_task = asyncio.ensure_future(self._drain())

    async def _drain(self) -> None:
        logger.info("finishing %d accepted continuations before the end", self.worker.open_continuations)
        if not await self.worker.drain(self.drain_seconds):
            logger.error("%d continuations did not finish in time", self.worker.open_continuations)
        self.should_exit = True


def run(
    app: ASGIApp,
    worker: Worker,
    *,
    host: str,
    port: int,
    drain_seconds: float,
    body_seconds: float,
    log_level: str,
    announce: Callable[[str, int], None],
    head_seconds: float = HEAD_SECONDS,
) -> int:
    """Serve until a signal. Returns 0 after a drain, 1 when the engine or the start failed.

    The head of a request has to arrive within `head_seconds`, its body within `body_seconds`."""
    config = uvicorn.Config(
        app,
        http=partial(Connection, body_seconds=body_seconds, head_seconds=head_seconds),  # type: ignore[arg-type]
        host=host,
        port=port,
        log_level=log_level,
        log_config=None,  # its records go where all others go: see service.logs
        access_log=False,  # service.context logs requests, by id
        server_header=False,
        ws="none",
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=max(1, round(drain_seconds)),
    )
    server = Server(config, worker, drain_seconds, announce)
    server.run()
    return 0 if server.started and worker.failure is None else 1
