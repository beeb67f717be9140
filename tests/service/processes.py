"""A fake server as a process of its own, and what tests and benchmarks ask of it."""

from __future__ import annotations

import multiprocessing
import os
import re
import signal
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx

from tests.service.fake_server import serve_fake


class Process:
    """A running fake server and a client for it."""

    def __init__(self, process: Any, port: int) -> None:
        self.process = process
        self.port = port
        self.http = httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=60)

    def terminate(self) -> None:
        os.kill(self.process.pid, signal.SIGTERM)

    def kill(self) -> None:
        """End it as a lack of memory or a pulled plug would: without a word to anybody."""
        os.kill(self.process.pid, signal.SIGKILL)

    def exit_status(self) -> int | None:
        self.process.join(60)
        status: int | None = self.process.exitcode
        return status

    def processor_seconds(self) -> float:
        """Of all its threads so far."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def resident_mib(self, kind: str = "VmRSS") -> float:
        """Memory it holds now, or with `VmHWM` the most it ever held."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(re.findall(rf"{kind}:\s+(\d+) kB", status)[0]) / 1024

    def forget_peak(self) -> None:
        """`VmHWM` is what it holds now."""
        Path(f"/proc/{self.process.pid}/clear_refs").write_text("5")

    def metric(self, name: str) -> float:
        for line in self.http.get("/metrics").text.splitlines():
            if line.rsplit(" ", 1)[0] == name:
                return float(line.rsplit(" ", 1)[1])
        return 0.0

    def wait_until(self, what: Callable[[], bool], seconds: float = 60) -> None:
        end = time.monotonic() + seconds
        while not what():
            assert time.monotonic() < end, self.http.get("/metrics").text
            time.sleep(0.02)

    def connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), timeout=60)

    def send_headers_of(self, body_bytes: int, query: str = "") -> socket.socket:
        """A connection that has announced a body and not sent it."""
        connection = self.connect()
        connection.sendall(
            f"POST /continue?{query} HTTP/1.1\r\nHost: x\r\nContent-Type: audio/wav\r\n"
            f"Content-Length: {body_bytes}\r\n\r\n".encode()
        )
        return connection


@contextmanager
def process(options: dict[str, Any] | None = None, **settings: Any) -> Iterator[Process]:
    """A fake server that is ready. `options` of `serve_fake`, `settings` of the service."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.service.fake_server"])
    ports, child = context.Pipe(duplex=False)
    running = context.Process(target=serve_fake, args=(child, settings), kwargs=options or {})
    running.start()
    child.close()
    try:
        assert ports.poll(120), "the server did not start"
        server = Process(running, ports.recv())
        server.wait_until(lambda: server.http.get("/readyz").status_code == 200)
        yield server
        server.http.close()
    finally:
        running.kill()
        running.join()
        running.close()
        ports.close()
