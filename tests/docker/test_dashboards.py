"""Dashboards and rules against a real service under load, and against the real Prometheus that scraped it."""

from __future__ import annotations

import itertools
import json
import math
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from queue import Queue
from threading import Thread
from typing import Any

import httpx
import pytest
import uvicorn
import yaml
from prometheus_client.parser import text_string_to_metric_families

from model.engine.scheduler import Batch
from model.engine.sequence import Sequence
from service.app import create_app
from service.ledger import Ledger
from service.provenance import Provenance
from service.server import Server
from service.settings import Settings
from tests.docker.conftest import DOCKER, RULES, load_yaml, program
from tests.docker.promql import dashboard_queries, recorded_series, references, rule_expressions
from tests.service.conftest import clip, sound_file
from tests.service.fakes import FakeDetector, FakeRunner, FakeWatermark, expected_sound, fake_worker

FROM_PROMETHEUS = {"instance", "job"}  # labels that scraping adds
NOT_SHOWN = {
    "process_virtual_memory_bytes": "address space; says nothing about memory in use",
}
FAILING_SEED = 13
PATIENCE_SECONDS = 240  # a quiet machine needs 10

pytestmark = pytest.mark.timeout(600)


class Service:
    """The service on a socket, around a fake engine: a quarter of a second of sound every 20 ms in two slots."""

    def __init__(self, port: int) -> None:
        self.address = f"127.0.0.1:{port}"
        self.http = httpx.Client(base_url=f"http://{self.address}", timeout=60)
        self._seeds = itertools.count(100)

    def bear_load(self) -> None:
        """A burst of requests that end in many ways: streamed, whole, refused, mistaken, failing; clips examined."""
        clips = {
            "/continue": clip(),
            "/detect": clip(3.0),
            "/detect#ours": sound_file(expected_sound(1, 32_000)),
        }

        def post(url: str) -> None:
            body = clips.get(url) or clips["/continue"]
            self.http.post(url, content=body)

        kinds = itertools.islice(itertools.cycle(["stream=true", "stream=false"]), 10)
        queries = [f"seed={next(self._seeds)}&{kind}" for kind in kinds]
        queries += [f"seed={FAILING_SEED}", "seconds=-1"]
        urls = [f"/continue?seconds=1&{query}" for query in queries] + [
            url for url in clips if "detect" in url
        ]
        with ThreadPoolExecutor(len(urls)) as pool:
            list(pool.map(post, urls))


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    def before(batch: Batch) -> None:
        time.sleep(0.02)
        if any(isinstance(task, Sequence) and task.seed == FAILING_SEED for task in batch.tasks):
            raise RuntimeError("the stage failed")

    runner = FakeRunner(slots=2, before=before, detector=FakeDetector())
    worker = fake_worker(runner, max_queue_size=4)
    ledger = Ledger(f"sqlite:///{tmp_path_factory.mktemp('ledger')}/ledger.sqlite")
    app = create_app(Settings(), worker, provenance=Provenance(FakeWatermark(), ledger))
    announced: Queue[int] = Queue()
    config = uvicorn.Config(app, host="127.0.0.1", port=0, log_config=None, access_log=False)
    server = Server(config, worker, 10.0, lambda host, port: announced.put(port))
    thread = Thread(target=server.run, name="service")
    thread.start()
    running = Service(announced.get(timeout=PATIENCE_SECONDS))
    while running.http.get("/readyz").status_code != 200:
        time.sleep(0.05)
    yield running
    running.http.close()
    server.should_exit = True
    thread.join()


@pytest.fixture(scope="module")
def families(service: Service) -> dict[str, tuple[str, set[str]]]:
    """Of every sample of a scrape: the type of its family and the names of its labels."""
    service.bear_load()
    return {
        sample.name: (family.type, set(sample.labels))
        for family in text_string_to_metric_families(service.http.get("/metrics").text)
        for sample in family.samples
    }


def test_dashboards_are_as_their_source_says() -> None:
    script = DOCKER / "grafana" / "dashboards.py"
    done = subprocess.run(
        [sys.executable, "-S", script, "--check"], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr


def test_every_series_in_use_is_exported_with_that_type_and_those_labels(
    families: dict[str, tuple[str, set[str]]],
) -> None:
    recorded = recorded_series()
    for where, expression in (dashboard_queries() | rule_expressions()).items():
        for reference in references(expression):
            if reference.name in recorded or reference.name == "up":
                continue
            assert reference.name in families, f"{where}: {reference.name} is not exported"
            kind, labels = families[reference.name]
            assert reference.labels <= labels | FROM_PROMETHEUS, f"{where}: {reference} has only {labels}"
            grows = kind in ("counter", "histogram")
            assert grows == (reference.function in ("rate", "increase")), f"{where}: {reference} is a {kind}"


def test_every_exported_series_is_on_a_dashboard_or_named_here(
    families: dict[str, tuple[str, set[str]]],
) -> None:
    expressions = [*dashboard_queries().values(), *rule_expressions().values()]
    shown = {family_of(reference.name) for text in expressions for reference in references(text)}
    exported = {family_of(name) for name in families}
    assert exported - shown == set(NOT_SHOWN)


def family_of(name: str) -> str:
    return name.removesuffix("_bucket").removesuffix("_count").removesuffix("_sum")


class Prometheus:
    """A running Prometheus and its API."""

    def __init__(self, http: httpx.Client) -> None:
        self.http = http

    def finite_values(self, expression: str) -> list[float]:
        """What a panel with `expression` would draw of the last minute."""
        now = time.time()
        answer = self.http.get(
            "/api/v1/query_range",
            params={"query": expression, "start": now - 60, "end": now, "step": 1},
        ).json()
        assert answer["status"] == "success", (expression, answer)
        values = [float(value) for series in answer["data"]["result"] for _, value in series["values"]]
        return [value for value in values if math.isfinite(value)]

    def rules(self) -> list[dict[str, Any]]:
        groups = self.http.get("/api/v1/rules").json()["data"]["groups"]
        return [rule for group in groups for rule in group["rules"]]


@contextmanager
def prometheus(folder: Path, target: str) -> Iterator[Prometheus]:
    """The real one with our configuration, looking at `target` every second."""
    binary = program("prometheus")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    config = load_yaml(DOCKER / "prometheus" / "prometheus.yml")
    config["global"] = {"scrape_interval": "1s", "evaluation_interval": "1s"}
    config["rule_files"] = [str(RULES / "*.yml")]
    del config["alerting"]
    for job in config["scrape_configs"]:
        is_ours = job["job_name"] == "audiolm"
        job["static_configs"] = [{"targets": [target if is_ours else f"127.0.0.1:{port}"]}]
    (folder / "prometheus.yml").write_text(yaml.safe_dump(config))
    command = [
        binary,
        f"--config.file={folder}/prometheus.yml",
        f"--storage.tsdb.path={folder}/data",
        "--log.level=warn",
    ]
    with subprocess.Popen([*command, f"--web.listen-address=127.0.0.1:{port}"]) as running:
        try:
            with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=20) as http:
                yield Prometheus(http)
        finally:
            running.terminate()


def test_every_panel_and_rule_has_data_after_load(service: Service, tmp_path: Path) -> None:
    left = {
        where: expression.replace("$__rate_interval", "15s").replace("$instance", ".*")
        for where, expression in dashboard_queries().items()
    } | {name: name for name in recorded_series()}
    with prometheus(tmp_path, service.address) as real:
        end = time.monotonic() + PATIENCE_SECONDS
        while left and time.monotonic() < end:
            service.bear_load()
            time.sleep(1)
            try:
                left = {where: query for where, query in left.items() if not real.finite_values(query)}
            except httpx.ConnectError:
                continue  # it is still starting
        assert not left, json.dumps(left, indent=1)
        assert {rule["health"] for rule in real.rules()} == {"ok"}
        firing = {rule["name"] for rule in real.rules() if rule.get("state") == "firing"}
        assert not firing & {"AudiolmDown", "AudiolmAbsent", "AudiolmNotReady", "AudiolmEngineStalled"}


def test_promtool_finds_nothing_wrong_with_names_and_types(service: Service) -> None:
    scrape = service.http.get("/metrics").text
    done = subprocess.run(
        [program("promtool"), "check", "metrics"], input=scrape, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout + done.stderr == ""
