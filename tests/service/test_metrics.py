"""What Prometheus is told: every series from the start, few label values, and numbers that are right."""

from __future__ import annotations

import asyncio
import random
import string
from typing import Any

import numpy as np
import pytest
from prometheus_client.parser import text_string_to_metric_families

from model.engine.counters import BATCH_ROWS, STEP_SECONDS, Distribution
from service.app import create_app
from service.metrics import OUTCOMES, REJECTIONS, WORK_ROUTES
from service.settings import Settings
from service.tickets import EngineResult
from tests.service.conftest import clip, serving
from tests.service.fakes import FakeRunner, Gate, fake_worker

pytestmark = pytest.mark.anyio

Series = dict[tuple[str, frozenset[tuple[str, str]]], float]


def series_of(text: str) -> Series:
    """Every sample of a scrape by its name and labels."""
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def value(series: Series, name: str, /, **labels: str) -> float:
    return series[name, frozenset(labels.items())]


async def test_rates_start_at_zero() -> None:
    async with serving() as client:
        series = series_of((await client.get("/metrics")).text)
    for outcome in OUTCOMES:
        assert value(series, "audiolm_requests_total", route="/continue", outcome=outcome) == 0
    for reason in REJECTIONS:
        assert value(series, "audiolm_rejections_total", reason=reason) == 0
    for reason in ("done", "failed", "cancelled", "expired", "stopped"):
        assert value(series, "audiolm_continuations_total", reason=reason) == 0


def test_every_route_that_does_work_has_its_series_from_the_start() -> None:
    paths = create_app(Settings(), fake_worker()).openapi()["paths"]
    assert {path for path, methods in paths.items() if "post" in methods} == set(WORK_ROUTES)


async def test_a_continuation_is_counted_on_its_way() -> None:
    async with serving() as client:
        await client.post("/continue?seconds=2&stream=true", content=clip(1.5))
        await client.post("/continue?seconds=1&num_continuations=2", content=clip(1.5))
        series = series_of((await client.get("/metrics")).text)
    assert value(series, "audiolm_generated_audio_seconds_sum") == 4.0
    assert value(series, "audiolm_prompt_audio_seconds_sum") == 3.0
    assert value(series, "audiolm_request_duration_seconds_count", route="/continue") == 2
    for name in ("queue_seconds", "time_to_first_audio_seconds", "real_time_factor"):
        assert value(series, f"audiolm_{name}_count") == 3
    assert value(series, "audiolm_inter_chunk_seconds_count") == 7  # of the streamed one: 8 pieces
    assert value(series, "audiolm_stage_seconds_count", stage="decode") == 3
    assert value(series, "audiolm_engine_units_total", stage="decode") == 16
    assert value(series, "audiolm_batch_rows_sum", stage="decode") == 16
    batches = value(series, "audiolm_batch_rows_count", stage="decode")
    assert value(series, "audiolm_engine_step_seconds_count", stage="decode") == batches <= 16
    assert (
        value(series, "audiolm_padding_rows_total", stage="decode") == batches
    )  # the fake pads each by one row
    assert value(series, "audiolm_engine_audio_seconds_total") == 4.0
    assert value(series, "audiolm_continuations_total", reason="done") == 3
    assert value(series, "audiolm_bundle_info", name="fake", version="0") == 1
    assert value(series, "audiolm_device_memory_bytes", state="allocated") == 2**20
    assert value(series, "process_resident_memory_bytes") > 2**20


async def test_a_rejection_is_counted_by_its_reason() -> None:
    gate = Gate()
    async with serving(FakeRunner(slots=1, before=gate), max_queue_size=1) as client:
        first = asyncio.create_task(client.post("/continue?seconds=1", content=clip()))
        await asyncio.to_thread(gate.reached.wait, 20)
        held = series_of((await client.get("/metrics")).text)
        refusals = [await client.post("/continue?seconds=1", content=clip()) for _ in range(5)]
        gate.open()
        await first
        series = series_of((await client.get("/metrics")).text)
    refused = sum(response.status_code == 429 for response in refusals)
    assert refused > 0
    assert value(series, "audiolm_rejections_total", reason="overloaded") == refused
    assert value(series, "audiolm_requests_total", route="/continue", outcome="rejected") == refused
    assert value(series, "audiolm_request_duration_seconds_count", route="/continue") == 1
    assert value(held, "audiolm_slots_used") == 1 == value(held, "audiolm_slots")
    assert value(series, "audiolm_slots_used") == 0


async def test_a_probe_that_says_not_ready_is_no_rejection() -> None:
    worker = fake_worker()
    async with serving(worker=worker) as client:
        await worker.drain()
        assert (await client.get("/readyz")).status_code == 503
        series = series_of((await client.get("/metrics")).text)
    assert value(series, "audiolm_draining") == 1
    assert sum(count for (name, _), count in series.items() if name == "audiolm_rejections_total") == 0


async def test_ten_thousand_random_paths_add_no_series() -> None:
    rng = random.Random(0)
    alphabet = string.ascii_letters + string.digits + "-_./"
    async with serving() as client:
        app = client._transport.app  # type: ignore[attr-defined]
        await client.get("/no-such-page")
        await client.delete("/continue")
        await client.get("/metrics")
        before = set(series_of((await client.get("/metrics")).text))
        for _ in range(10_000):
            path = "/x" + "".join(rng.choices(alphabet, k=rng.randint(1, 40)))
            await request(app, rng.choice(["GET", "POST", "DELETE"]), path)
        after = series_of((await client.get("/metrics")).text)
    assert set(after) == before
    assert value(after, "audiolm_requests_total", route="unmatched", outcome="client_error") == 10_001


async def request(app: Any, method: str, path: str) -> None:
    """One request without a client around it, which would take ten times as long as the answer."""
    scope = {
        "type": "http",
        "method": method,
        "path": path,
        "raw_path": path.encode(),
        "headers": [],
        "query_string": b"",
    }

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b""}

    async def send(message: dict[str, Any]) -> None:
        pass

    await app({**scope, "scheme": "http", "http_version": "1.1", "server": ("service", 80)}, receive, send)


def test_gaps_and_underruns_of_a_stream() -> None:
    arrivals = ((1.0, 16_000), (1.5, 16_000), (3.5, 16_000), (4.0, 8_000))  # heard out at 2, 3, 4.5, 5
    result = EngineResult(np.zeros(56_000, np.float32), 0, 1.0, {}, arrivals)
    assert result.first_audio_seconds == 1.0
    assert result.seconds == 4.0
    assert result.gaps() == [0.5, 2.0, 0.5]
    assert result.underruns(16_000) == 1


def test_a_distribution_counts_like_a_histogram_of_prometheus() -> None:
    rows = Distribution(BATCH_ROWS)
    for number in (1, 2, 2, 3, 200):
        rows.add(number)
    assert rows.counts == [1, 2, 1, 0, 0, 0, 0, 0, 1]
    assert rows.total == 208
    assert rows.mean == 208 / 5
    assert Distribution(STEP_SECONDS).mean == 0
