"""Callers who send nothing, little or too much before they have asked for anything."""

from __future__ import annotations

import http.client
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from tests.service.conftest import clip, samples_of
from tests.service.processes import Process, process

HEAD_SECONDS = 0.5
BODY_SECONDS = 1.0
LATE = 60.0  # nobody who is served waits for it: a connection that is closed ends the wait


@pytest.fixture(scope="module")
def server() -> Iterator[Process]:
    with process({"head_seconds": HEAD_SECONDS}, body_timeout_seconds=BODY_SECONDS) as running:
        yield running


@pytest.fixture(scope="module")
def slow() -> Iterator[Process]:
    """Takes longer for an answer than a request may take to arrive."""
    options = {"head_seconds": HEAD_SECONDS, "step_seconds": 0.15}
    with process(options, body_timeout_seconds=BODY_SECONDS) as running:
        yield running


def closed_after(connection: socket.socket, *, drip: bytes = b"", every: float = 0.05) -> float:
    """Seconds until the server closes, while `drip` is sent again and again."""
    started = time.monotonic()
    connection.settimeout(every)
    while time.monotonic() - started < LATE:
        try:
            if drip:
                connection.sendall(drip)
            if connection.recv(65_536) == b"":
                break
        except TimeoutError:
            continue
        except ConnectionError:
            break
    return time.monotonic() - started


@pytest.mark.parametrize(
    ("start", "drip"),
    [
        (b"", b""),
        (b"POST /continue HTTP/1.1\r\nHost: x\r\n", b""),
        (b"POST /continue HTTP/1.1\r\nHost: x\r\n", b"X-Slow: 1\r\n"),
        (b"", b"\r\n"),
        (b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n", b"\r\n"),
    ],
    ids=["nothing", "half a head", "a slow head", "empty lines", "empty lines after an answer"],
)
def test_a_request_has_to_begin_and_its_head_to_end(server: Process, start: bytes, drip: bytes) -> None:
    with server.connect() as connection:
        connection.sendall(start)
        assert HEAD_SECONDS * 0.9 < closed_after(connection, drip=drip) < LATE


def test_a_head_has_a_size(server: Process) -> None:
    with server.connect() as connection:
        connection.sendall(b"GET /livez HTTP/1.1\r\nHost: x\r\nX-Large: " + b"a" * 70_000)
        assert connection.recv(65_536).startswith(b"HTTP/1.1 431 ")


def test_a_refused_body_is_not_read_for_ever(server: Process) -> None:
    with server.send_headers_of(10**12) as connection:
        assert connection.recv(65_536).startswith(b"HTTP/1.1 413 ")
        assert BODY_SECONDS < closed_after(connection, drip=b"a") < LATE


def test_a_connection_is_kept_between_requests_and_while_an_answer_is_made(slow: Process) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", slow.port, timeout=60)
    connection.connect()
    connection.auto_open = 0  # a connection that was closed is not opened again
    for pause in (0, 2 * HEAD_SECONDS):
        time.sleep(pause)
        connection.request("POST", "/continue?seconds=5", body=clip())
        answer = connection.getresponse()
        assert (answer.status, len(samples_of(answer.read()))) == (200, 6 * 16_000)
    connection.close()


def test_others_are_served_beside_hundreds_of_slow_connections(server: Process) -> None:
    with ExitStack() as held:
        for _ in range(200):
            held.enter_context(server.connect()).sendall(b"POST /continue HTTP/1.1\r\n")
        assert server.http.post("/continue?seconds=0.5", content=clip()).status_code == 200
