"""The load generator counts what happened: against the fake engine, whose speed and capacity are known."""

from __future__ import annotations

import random

import pytest

from service.client import AsyncClient
from service.load import Load, Report, quantiles, table
from tests.service.conftest import clip, serving
from tests.service.fakes import FakeRunner, pause

pytestmark = pytest.mark.anyio


async def test_closed_loop() -> None:
    async with (
        serving(FakeRunner(before=pause(0.005))) as http,
        AsyncClient("http://service", transport=http._transport, retries=0) as client,
    ):
        report = await Load(client, clip(0.6), seconds=0.5).closed(3, 0.5)
    assert report.requests == report.succeeded >= 3
    assert report.errors == {}
    assert report.audio_seconds_per_second == pytest.approx(report.succeeded * 0.5 / report.elapsed)
    assert 0 < report.first_audio["p50"] <= report.duration["p50"] <= report.duration["p99"]
    assert report.real_time_factor["p50"] == pytest.approx(report.duration["p50"] / 0.5)


async def test_requests_of_several_lengths_take_turns() -> None:
    async with (
        serving() as http,
        AsyncClient("http://service", transport=http._transport, retries=0) as client,
    ):
        load = Load(client, clip(0.6), seconds=[0.5, 1.5])
        reports = [await load.closed(1, 0.001) for _ in range(4)]  # a request each
    made = [report.audio_seconds_per_second * report.elapsed for report in reports]
    assert made == pytest.approx([0.5, 1.5, 0.5, 1.5])


async def test_open_loop_counts_refusals() -> None:
    async with (
        serving(FakeRunner(slots=1, before=pause(0.05)), max_queue_size=2) as http,
        AsyncClient("http://service", transport=http._transport, retries=0) as client,
    ):
        report = await Load(client, clip(0.6), seconds=0.5).open(60, 0.5, random.Random(0))
    assert report.errors == {"429 overloaded": report.requests - report.succeeded}
    assert 0 < report.succeeded < report.requests
    assert report.goodput == pytest.approx(report.succeeded / report.elapsed)


def test_table_has_a_row_per_load() -> None:
    report = Report("8 callers", 2.0, 4, 3, {"429 overloaded": 1}, 7.5, 1.5, quantiles([1.0, 2.0, 3.0]))
    row = table([report]).splitlines()[-1]
    assert row == "| 8 callers | 4 | 3 | 7.50 | 1.50 | 2.00 / 3.00 / 3.00 | - | - | 1 x 429 overloaded |"
