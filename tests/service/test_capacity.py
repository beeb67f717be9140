"""The capacity calculator: against queueing theory where theory has an answer, and against sense elsewhere."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest

from service.capacity import MeasurementError, Replica, most_arrivals, replica_of, replicas_for, simulate
from service.cli import main
from service.settings import Settings

ONE_BY_ONE = Replica((1,), (1.0,), slots=1, max_queue_size=10**6, audio_seconds=5.0)
BATCHING = Replica((1, 4, 8), (0.5, 1.6, 2.0), slots=8, max_queue_size=64, audio_seconds=5.0)


def report(callers: int, rate: float, *, seconds: float = 5.0) -> dict[str, object]:
    """What `audiolm load` writes of a minute with `callers`."""
    return {
        "name": f"{callers} callers",
        "elapsed": 60.0,
        "requests": round(60 * rate),
        "succeeded": round(60 * rate),
        "audio_seconds_per_second": seconds * rate,
    }


@pytest.mark.parametrize("load", [0.3, 0.6, 0.8])
def test_a_line_with_one_server_waits_as_theory_says(load: float) -> None:
    """M/D/1 (Pollaczek-Khinchine): the mean wait is rho / (2 (1 - rho)) of a service time."""
    outcome = simulate(ONE_BY_ONE, 1, load, random.Random(1), 40_000)
    assert outcome.refused == 0
    assert outcome.waited_mean == pytest.approx(load / (2 * (1 - load)), rel=0.1)
    assert outcome.waited_p95 == pytest.approx(outcome.p95 - 1, abs=1e-6)


def test_a_full_line_refuses_what_exceeds_its_speed() -> None:
    short = Replica((1,), (1.0,), slots=1, max_queue_size=4, audio_seconds=5.0)
    outcome = simulate(short, 1, 2.0, random.Random(1), 20_000)
    assert outcome.refused == pytest.approx(0.5, abs=0.02)
    assert outcome.p99 <= 5 + 1e-6  # four before it, and itself


def test_requests_in_work_share_the_replica() -> None:
    assert BATCHING.rate(1) == 0.5
    assert BATCHING.rate(2) == pytest.approx(0.5 + 1.1 / 3)
    assert BATCHING.rate(6) == pytest.approx(1.8)
    assert BATCHING.rate(100) == 2.0
    assert BATCHING.limit == 2.0
    quiet = simulate(BATCHING, 1, 0.001, random.Random(0), 500)
    assert quiet.p50 == pytest.approx(2.0)  # alone: 1 / 0.5
    assert quiet.waited_p95 == 0


def test_more_load_is_never_faster() -> None:
    outcomes = [simulate(BATCHING, 1, rate, random.Random(3), 5_000) for rate in (0.5, 1.0, 1.5, 1.9)]
    assert [outcome.p95 for outcome in outcomes] == sorted(outcome.p95 for outcome in outcomes)


def test_the_limit_holds_and_a_little_more_does_not() -> None:
    held = most_arrivals(BATCHING, 1, objective_seconds=8)
    assert 0.5 < held < BATCHING.limit
    assert simulate(BATCHING, 1, held, random.Random(0)).meets(8)
    assert not simulate(BATCHING, 1, held * 1.1, random.Random(0)).meets(8)


def test_enough_replicas_and_not_one_fewer() -> None:
    count = replicas_for(BATCHING, 10.0, objective_seconds=8)
    assert count is not None
    assert simulate(BATCHING, count, 10.0, random.Random(0)).meets(8)
    assert not simulate(BATCHING, count - 1, 10.0, random.Random(0)).meets(8)


def test_no_number_of_replicas_makes_one_request_faster() -> None:
    assert replicas_for(BATCHING, 1.0, objective_seconds=1.9) is None


def test_a_replica_is_read_from_what_load_wrote() -> None:
    of_no_use = [{"name": "2 arrivals/s", "succeeded": 1}, {**report(4, 1), "succeeded": 0}]
    replica = replica_of([report(8, 2.0), report(1, 0.5), *of_no_use], slots=8, max_queue_size=64)
    assert replica.concurrencies == (1, 8)
    assert replica.rates == (0.5, 2.0)
    assert replica.audio_seconds == pytest.approx(5.0)
    with pytest.raises(MeasurementError, match="closed-loop"):
        replica_of([], slots=8, max_queue_size=64)


def test_the_serving_benchmark_says_with_which_settings_it_measured() -> None:
    written = {"conditions": {}, "capacity": {"slots": 4, "max_queue_size": 9, "load": [report(4, 1.0)]}}
    replica = replica_of(written)
    assert (replica.slots, replica.max_queue_size, replica.rates) == (4, 9, (1.0,))
    assert replica_of(written, slots=8, max_queue_size=0).slots == 8
    assert replica_of(written, slots=8, max_queue_size=0).max_queue_size == 0
    with pytest.raises(MeasurementError, match="closed-loop"):
        replica_of({"overload": {}})


def test_figures_that_do_not_say_are_taken_for_the_service_as_it_comes() -> None:
    replica = replica_of([report(4, 1.0)])
    defaults = Settings.model_fields
    assert replica.slots == defaults["slots"].default
    assert replica.max_queue_size == defaults["max_queue_size"].default


def test_the_command_prints_callers_settings_and_where_it_breaks(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "load.json"
    file.write_text(json.dumps([report(1, 0.5), report(4, 1.6), report(8, 2.0)]))
    assert main(["capacity", str(file), "--callers", "200", "--every", "60", "--slots", "8"]) == 0
    printed = capsys.readouterr().out
    assert "at most 2 requests of 5 s" in printed
    assert "AUDIOLM_SLOTS=8" in printed
    assert "200 callers ask 3.333 times a second and need 2 replicas." in printed
    assert "| 150% |" in printed
    assert "too much" in printed


@pytest.mark.parametrize("text", ["", "[]", "{"])
def test_the_command_says_what_is_wrong_with_the_figures(
    text: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "load.json"
    file.write_text(text)
    assert main(["capacity", str(file)]) == 2
    assert capsys.readouterr().err.startswith("audiolm: ")
