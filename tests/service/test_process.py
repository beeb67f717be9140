"""A real server process over real sockets: disconnects, broken streams, slow bodies, signals."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from tests.service.conftest import assert_problem, clip, samples_of
from tests.service.processes import Process, process


@pytest.fixture(scope="module")
def slow() -> Iterator[Process]:
    """Makes a quarter of a second of sound every 50 ms; seed 13 fails after its first second."""
    with process(
        {"step_seconds": 0.05, "fail_seed": 13, "fail_after_cuts": 4}, body_timeout_seconds=1
    ) as server:
        yield server


def test_streamed_sound_arrives_while_it_is_made(slow: Process) -> None:
    with slow.http.stream("POST", "/continue?stream=true&seconds=30&seed=1", content=clip()) as response:
        next(response.iter_raw())
        assert slow.metric("audiolm_running") == 1, "six seconds of work are before the last piece"
    slow.wait_until(lambda: slow.metric("audiolm_running") == 0)
    with slow.http.stream("POST", "/continue?stream=true&seconds=2&seed=1", content=clip()) as response:
        assert len(samples_of(response.read())) == 3 * 16_000


@pytest.mark.parametrize("format", ["wav", "pcm", "mp3", "ogg", "flac"])
def test_an_error_after_the_first_byte_breaks_the_answer_off(slow: Process, format: str) -> None:
    url = f"/continue?stream=true&seconds=3&seed=13&response_format={format}"
    with slow.http.stream("POST", url, content=clip()) as response:
        assert response.status_code == 200
        with pytest.raises(httpx.RemoteProtocolError):
            response.read()
    slow.wait_until(lambda: slow.metric("audiolm_running") == 0)


@pytest.mark.parametrize("stream", ["true", "false"])
def test_a_disconnect_frees_the_slot(slow: Process, stream: str) -> None:
    before = slow.metric('audiolm_continuations_total{reason="cancelled"}')
    body = clip()
    connection = slow.send_headers_of(len(body), f"seconds=30&stream={stream}")
    connection.sendall(body)
    slow.wait_until(lambda: slow.metric("audiolm_running") == 1)
    connection.close()
    slow.wait_until(lambda: slow.metric("audiolm_running") == 0)
    assert slow.metric('audiolm_continuations_total{reason="cancelled"}') == before + 1
    slow.wait_until(lambda: slow.metric('audiolm_requests_total{outcome="cancelled",route="/continue"}') >= 1)


def test_a_body_that_does_not_come_is_408(slow: Process) -> None:
    connection = slow.send_headers_of(100_000)
    connection.sendall(b"RIFF")
    answer = b""
    while piece := connection.recv(65_536):  # head and body may come one after the other
        answer += piece
        if answer.endswith(b"}"):
            break
    assert answer.startswith(b"HTTP/1.1 408 ")
    assert b"body_too_slow" in answer
    connection.close()


def test_a_body_that_breaks_off_harms_nobody(slow: Process) -> None:
    connection = slow.send_headers_of(100_000)
    connection.sendall(clip()[:5_000])
    connection.close()
    assert slow.http.post("/continue?seconds=0.5", content=clip()).status_code == 200


def test_an_announced_length_above_the_cap_is_refused_unread(slow: Process) -> None:
    connection = slow.send_headers_of(10**12)
    assert connection.recv(65_536).startswith(b"HTTP/1.1 413 ")
    connection.close()


def test_sigterm_finishes_what_was_accepted_and_refuses_the_rest() -> None:
    with process({"step_seconds": 0.05, "slots": 2}) as server, ThreadPoolExecutor(4) as pool:
        accepted = [
            pool.submit(server.http.post, f"/continue?seconds=5&seed={i}", content=clip()) for i in range(4)
        ]
        streamed = pool.submit(server.http.post, "/continue?seconds=5&stream=true", content=clip())
        server.wait_until(lambda: server.metric("audiolm_running") + server.metric("audiolm_waiting") >= 4)
        server.terminate()
        server.wait_until(lambda: server.http.get("/readyz").status_code == 503)
        assert_problem(server.http.post("/continue", content=clip()), 503, "draining")
        assert server.http.get("/livez").status_code == 200
        answers = [future.result() for future in accepted]
        assert [len(samples_of(answer.content)) for answer in answers] == [6 * 16_000] * 4
        assert streamed.result().status_code in (200, 503)
        assert server.exit_status() == 0


def test_a_killed_server_serves_again_at_the_same_place() -> None:
    url = "/continue?seconds=1&seed=5"
    with process({"step_seconds": 0.05, "slots": 2}) as server, ThreadPoolExecutor(2) as pool:
        answer = server.http.post(url, content=clip()).content
        lost = [
            pool.submit(server.http.post, f"/continue?seconds=30&stream={stream}", content=clip())
            for stream in ("true", "false")
        ]
        server.wait_until(lambda: server.metric("audiolm_running") == 2)
        server.kill()
        for future in lost:
            with pytest.raises(httpx.TransportError):
                future.result()
        assert server.exit_status() == -signal.SIGKILL
        port = server.port
    with process({"port": port}) as again:
        assert again.port == port
        assert again.http.post(url, content=clip()).content == answer


def test_an_idle_server_ends_at_once() -> None:
    with process() as server:
        server.terminate()
        assert server.exit_status() == 0  # long before it would give up waiting for requests to end


def test_a_lost_device_ends_the_process_with_an_error() -> None:
    with (
        process({"fail_seed": 13, "die": True, "step_seconds": 0.02}) as server,
        ThreadPoolExecutor(1) as pool,
    ):
        bystander = pool.submit(server.http.post, "/continue?seconds=30&seed=1", content=clip())
        server.wait_until(lambda: server.metric("audiolm_running") == 1)
        assert_problem(server.http.post("/continue?seed=13", content=clip()), 503, "engine_failed")
        assert_problem(bystander.result(), 503, "engine_failed")
        assert server.exit_status() == 1
