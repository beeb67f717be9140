"""Servers of the same model, each started as a process of its own and asked in its own way.

Knows how to start, ask and stop them; measures nothing.
"""

from __future__ import annotations

import base64
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from typing import Any, Self

import httpx

from service.client import AsyncClient
from service.conversation import DEFAULT_TIMEOUT, RequestRefused

START_SECONDS = 240.0
SERVE = "from service.cli import main; raise SystemExit(main())"
# Nobody else marks its sound, so here the service does not either: equal work.
UNMARKED = {f"AUDIOLM_{layer}": "false" for layer in ("WATERMARK", "LEDGER", "CONTENT_CREDENTIALS")}


class JSONClient:
    """Asks a server that takes and gives JSON, in the words of AsyncClient; its sound comes all at once."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._http = httpx.AsyncClient(timeout=DEFAULT_TIMEOUT, limits=httpx.Limits(max_connections=None))

    @asynccontextmanager
    async def stream(self, clip: bytes, **parameters: Any) -> AsyncIterator[AsyncIterator[bytes]]:
        body = {"clip": base64.b64encode(clip).decode(), **parameters}
        answer = await self._http.post(f"{self.url}/continue", json=body)
        if answer.status_code >= 400:
            raise RequestRefused(answer.status_code, {})

        async def pieces() -> AsyncIterator[bytes]:
            yield base64.b64decode(answer.json()["pcm"])

        yield pieces()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *error: object) -> None:
        await self._http.aclose()


@dataclass(frozen=True)
class Contender:
    """A server: the arguments of its Python process, which `--port` follows, and its environment."""

    name: str
    arguments: tuple[str, ...]
    environment: Mapping[str, str] = field(default_factory=dict)
    health: str = "/health"
    takes_json: bool = False

    def client(self, url: str) -> AsyncClient | JSONClient:
        return JSONClient(url) if self.takes_json else AsyncClient(url, retries=0)

    @contextmanager
    def running(self) -> Iterator[tuple[str, float]]:
        """Its URL, once it is ready, and the seconds that took. Stopped in the end, with all it started."""
        port = _free_port()
        url = f"http://127.0.0.1:{port}"
        command = [sys.executable, *self.arguments, "--port", str(port)]
        environment = {**os.environ, **UNMARKED, "AUDIOLM_LOG_LEVEL": "error", **self.environment}
        started = time.perf_counter()
        process = subprocess.Popen(
            command, env=environment, start_new_session=True, stdout=subprocess.DEVNULL
        )
        try:
            while not _answers(url + self.health):
                if process.poll() is not None or time.perf_counter() - started > START_SECONDS:
                    raise RuntimeError(f"{self.name} did not start: {' '.join(command)}")
                time.sleep(0.1)
            yield url, time.perf_counter() - started
        finally:
            _end(process)


def service(name: str, **settings: object) -> Contender:
    """Our service with these settings."""
    environment = {f"AUDIOLM_{key.upper()}": str(value) for key, value in settings.items()}
    return Contender(name, ("-c", SERVE, "serve"), environment, health="/readyz")


def plain() -> Contender:
    return Contender("plain handler", ("-m", "tests.benchmarks.peer_plain"))


def litserve(batch: int) -> Contender:
    arguments = ("-m", "tests.benchmarks.peer_litserve", "--batch", str(batch))
    return Contender("LitServe, whole requests batched", arguments, takes_json=True)


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port: int = listening.getsockname()[1]
        return port


def _answers(url: str) -> bool:
    try:
        return httpx.get(url, timeout=5).status_code == 200
    except httpx.TransportError:
        return False


def _end(process: subprocess.Popen[bytes]) -> None:
    for signal_number in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(process.pid, signal_number)
            process.wait(20)
        except (ProcessLookupError, subprocess.TimeoutExpired):
            continue
