"""Many machines: a real Ray cluster of two nodes, the real engine in each, and one of them lost under load."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from pathlib import Path

import httpx
import pytest

from service.client import AsyncClient
from tests.service.conftest import clip, samples_of

pytest.importorskip("ray", reason="the extra [ray] is not installed")
pytestmark = pytest.mark.timeout(600)  # for starting, answering and ending, each with a limit of its own
SECONDS = 2.0
START_SECONDS = 180  # for some twenty processes
PATIENCE_SECONDS = 120  # for one answer


class RunningCluster:
    """See tests.service.ray_cluster."""

    def __init__(self, process: subprocess.Popen[str], answers: Connection, url: str, log: Path) -> None:
        self.process, self.answers, self.url, self.log = process, answers, url, log

    def wait_until(self, said: str, seconds: float) -> None:
        try:
            heard = self.answers.recv() if self.answers.poll(seconds) else f"nothing within {seconds} s"
        except EOFError:
            heard = "its end"
        assert heard == said, self.log.read_text(errors="replace")[-4000:]

    def lose_a_node(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write("kill\n")
        self.process.stdin.flush()
        self.wait_until("killed", 60)

    def end(self) -> None:
        """Whatever state it is in: what does not end by itself is killed, with all it has started."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        with suppress(subprocess.TimeoutExpired):
            self.process.wait(30)
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait(30)
        self.answers.close()


def start(settings: dict[str, str], log: Path) -> RunningCluster:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    answers, child = Pipe(duplex=False)
    with log.open("wb") as file:
        process = subprocess.Popen(
            [sys.executable, "-W", "ignore", "-m", "tests.service.ray_cluster", str(port), str(child.fileno())],
            stdin=subprocess.PIPE, stdout=file, stderr=subprocess.STDOUT, text=True,
            env={**os.environ, **settings}, pass_fds=[child.fileno()], start_new_session=True,
        )  # fmt: skip
    child.close()
    return RunningCluster(process, answers, f"http://127.0.0.1:{port}", log)


@pytest.fixture
def cluster(tiny_bundle: Path, tmp_path: Path) -> Iterator[RunningCluster]:
    """Started again where Ray gave up: it grants a node 30 s, which no setting changes and a busy machine exceeds."""
    settings = {
        "AUDIOLM_BUNDLE": str(tiny_bundle),
        "AUDIOLM_DATA_DIR": str(tmp_path),
        "AUDIOLM_TORCH_THREADS": "1",
        "AUDIOLM_DEVICE": "cpu",
        "RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH": "service.ray_proxy:middlewares",
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_TMPDIR": "/tmp",  # its sockets need a short path
    }
    running = start(settings, tmp_path / "cluster.log")
    try:
        for attempts_left in (2, 1, 0):
            try:
                running.wait_until("ready", START_SECONDS)
                break
            except AssertionError:
                if not attempts_left or "timed out during startup" not in running.log.read_text(
                    errors="replace"
                ):
                    raise
                running.end()
                running = start(settings, tmp_path / "cluster.log")
        yield running
    finally:
        running.end()


def test_a_cluster_answers_as_one_process_and_outlives_a_node(
    cluster: RunningCluster, tiny_bundle: Path, tmp_path: Path
) -> None:
    """One test, since a cluster is dear: the same answers, streams, errors; then a node dies under load."""
    body = clip(1.5)
    http = httpx.Client(base_url=cluster.url, timeout=PATIENCE_SECONDS)
    answers = http.post("/continue", params={"seconds": SECONDS, "seed": 5}, content=body)
    assert answers.status_code == 200, answers.text
    alone = _alone(tiny_bundle, tmp_path, body)
    assert samples_of(answers.content).tobytes() == samples_of(alone).tobytes()
    assert len(answers.headers.get_list("x-request-id")) == 1

    raw = {"seconds": SECONDS, "seed": 5, "response_format": "pcm"}
    with http.stream("POST", "/continue", params={**raw, "stream": True}, content=body) as stream:
        streamed = b"".join(stream.iter_bytes())
    plain = http.post("/continue", params=raw, content=body)
    assert streamed == plain.content

    refused = http.post("/continue", content=b"no sound")
    assert refused.status_code in (415, 422)
    assert refused.headers["content-type"] == "application/problem+json"

    http.close()

    asyncio.run(_lose_a_node(cluster, body))


async def _lose_a_node(cluster: RunningCluster, body: bytes) -> None:
    async with (
        httpx.AsyncClient(base_url=cluster.url, timeout=PATIENCE_SECONDS) as plain,
        AsyncClient(cluster.url) as client,
    ):
        bare = [
            asyncio.create_task(plain.post("/continue", params={"seconds": 8, "seed": i}, content=body))
            for i in range(6)
        ]
        retrying = [asyncio.create_task(client.continue_clip(body, seconds=8, seed=i)) for i in range(6)]
        await asyncio.sleep(1.0)
        await asyncio.to_thread(cluster.lose_a_node)
        outcomes = await asyncio.gather(*bare)
        assert {answer.status_code for answer in outcomes} <= {200, 503}
        assert any(answer.status_code == 200 for answer in outcomes)  # those on the other node
        for lost in (answer for answer in outcomes if answer.status_code == 503):
            assert int(lost.headers["retry-after"]) >= 1
            assert lost.json()["code"] == "replica_lost"
        for answer in await asyncio.gather(*retrying):  # a client that retries notices nothing
            assert len(samples_of(answer.audio)) == round((1.5 + 8) * 16_000)


def _alone(bundle: Path, data: Path, body: bytes) -> bytes:
    """The answer of the same app in this process, with the same key."""
    from service.app import build_worker, create_app
    from service.layers import build_provenance
    from service.settings import Settings

    settings = Settings(bundle=bundle, data_dir=data, device="cpu", torch_threads=1)

    async def ask() -> bytes:
        worker = build_worker(settings)
        app = create_app(settings, worker, provenance=build_provenance(settings))
        async with app.router.lifespan_context(app):
            await worker.ready()
            transport = httpx.ASGITransport(app=app)
            async with httpx.AsyncClient(transport=transport, base_url="http://service") as client:
                params = {"seconds": SECONDS, "seed": 5}
                return (await client.post("/continue", params=params, content=body)).content

    return asyncio.run(ask())
