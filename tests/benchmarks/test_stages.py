"""What the stopwatch notes of an engine's batches."""

from __future__ import annotations

import time
from itertools import pairwise

import pytest
import torch

from model.audiolm import AudioLM
from model.engine.work import COARSE, DECODE, FINE, SEMANTIC
from tests.benchmarks.limits import Limits
from tests.benchmarks.stages import SECONDS, Cell, Timed, measure
from tests.benchmarks.systems import build

CPU = torch.device("cpu")
ROWS = 3


@pytest.fixture(scope="module")
def model() -> AudioLM:
    return build("tiny", CPU)


@pytest.fixture(scope="module")
def batches(model: AudioLM) -> list[Timed]:
    """All batches of ROWS continuations, from first to last."""
    cell = Cell(model, ROWS, time.perf_counter)
    cell.fill()
    while cell.busy:
        cell.step()
    return cell.stopwatch.batches


def test_every_stage_is_credited_with_the_sound_it_made(model: AudioLM, batches: list[Timed]) -> None:
    made = {
        name: sum(b.audio_seconds for b in batches if b.stage == name) for name in (SEMANTIC, COARSE, FINE)
    }
    assert made[FINE] == pytest.approx(ROWS * SECONDS)
    assert (
        ROWS * SECONDS * 0.95 < made[COARSE] < ROWS * SECONDS * 1.05
    )  # delayed columns more, prefills fewer
    assert ROWS * SECONDS * 0.95 < made[SEMANTIC] < ROWS * SECONDS * 1.05
    decoded = sum(b.audio_seconds for b in batches if b.stage == DECODE)
    assert decoded == pytest.approx(ROWS * SECONDS, abs=ROWS * 0.1)  # and the end of the prompt, for the seam


def test_rows_that_step_together_are_one_batch(batches: list[Timed]) -> None:
    together = sum(b.steps for b in batches if b.stage == COARSE and b.rows == ROWS)
    assert 0.8 * SECONDS * 50 < together < 1.05 * SECONDS * 50  # three more per window, for the delay


def test_costs_grow_with_what_is_attended_to(batches: list[Timed]) -> None:
    costs = [b.cost for b in batches if b.stage == COARSE and b.rows == ROWS][:5]  # of the first window
    for first, later in pairwise(costs):
        assert first is not None and later is not None
        assert later.num_bytes > first.num_bytes and later.operations > first.operations


def test_rows_are_measured_or_say_why_not(model: AudioLM) -> None:
    limits = Limits(1e10, {"float32": 1e11, "bfloat16": 2e11})
    rows = measure(
        model, "tiny", CPU, (1, 2), limits, time.perf_counter, slices=1, slice_seconds=0.2, settle_seconds=120
    )
    assert {(row["batch"], row["stage"]) for row in rows} >= {(1, SEMANTIC), (1, COARSE), (2, COARSE)}
    assert all(0 < row["of_limit"] < 1 for row in rows if "of_limit" in row)
    assert all(row["rows"] == row["batch"] for row in rows if row["stage"] == COARSE)
    none = measure(
        model, "tiny", CPU, (2,), limits, time.perf_counter, slices=1, slice_seconds=0.1, settle_seconds=-1
    )
    assert none == [{"system": "tiny", "device": "cpu", "batch": 2, "skipped": "not under way within -1 s"}]
