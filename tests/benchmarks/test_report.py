"""Tables that people read: nothing rounded away, nothing left out."""

from __future__ import annotations

import pytest

from tests.benchmarks import report
from tests.benchmarks.report import number


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (0.0012345, "0.00123"),
        (0.25, "0.25"),
        (1.0, "1.00"),
        (9.876, "9.88"),
        (12.34, "12.3"),
        (123.4, "123"),
        (12345.6, "12 346"),
        (-0.5, "-0.5"),
        (None, ""),
    ],
)
def test_numbers_have_three_digits_and_no_exponent(value: float | None, shown: str) -> None:
    assert number(value) == shown


def cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip("|").split("|")]


def test_a_row_that_was_not_measured_says_why() -> None:
    text = report.stages([{"system": "base", "device": "cpu", "batch": 64, "skipped": "not enough memory"}])
    head, _, row = text.splitlines()
    assert cells(row)[:3] == ["base", "cpu", "64"]
    assert cells(row)[-1] == "not enough memory"
    assert len(cells(row)) == len(cells(head))


def test_a_stage_without_a_count_has_no_limit() -> None:
    measured = {
        "system": "s",
        "device": "cpu",
        "batch": 8,
        "stage": "decode",
        "steps_per_second": 20.0,
        "spread": 0.5,
        "audio_seconds_per_second": 3.0,
    }
    row = cells(report.stages([measured]).splitlines()[2])
    assert row == ["s", "cpu", "8", "decode", "20.0", "50%", "3.00", *["-"] * 5]


def test_callers_alone_and_together_are_rows_of_one_table() -> None:
    spread = {"median": 0.2}
    found = {
        "system": "shipped",
        "device": "cpu",
        "lengths": [{"seconds": 10.0, "real_time_factor": spread, "first_audio_seconds": {"median": 0.4}}],
        "together": [
            {
                "callers": 8,
                "seconds": 10.0,
                "real_time_factor": 0.05,
                "first_audio_wall_seconds": {"median": 1.5},
            }
        ],
        "skipped": ["30 s: no time"],
        "peak_memory_bytes": 2**30,
        "peak_device_bytes": None,
        "ready_seconds": 4.0,
    }
    alone, together, skipped = report.continuations([found]).splitlines()[2:]
    assert cells(alone)[2:] == ["1", "10.0", "0.2", "5.00", "0.4", "1.00", "", "4.00"]
    assert cells(together)[2:7] == ["8", "10.0", "0.05", "20.0", "1.50"]
    assert cells(skipped)[-1] == "30 s: no time"


def test_a_busy_machine_is_said() -> None:
    found = {
        "time": "now", "machine": "m", "cores": 2, "cores_allowed": 1, "threads": 1, "load_average": [9, 9, 9],
        "core_share": 0.4,
        "memory_available_gib": 1, "python": "3", "torch": "2", "capability": "AVX512", "gpu": None,
        "clock": "wall", "versions": {"transformers": None}, "busy": True,
    }  # fmt: skip
    assert "Others kept this machine busy" in report.conditions(found)
    assert "Others" not in report.conditions(found | {"busy": False})
    assert "transformers not installed" in report.conditions(found)
