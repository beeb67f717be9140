"""Whether a busy machine is recognized."""

from __future__ import annotations

import os

from tests.benchmarks.conditions import available_memory, conditions, is_busy


def found(load: float, share: float) -> dict[str, object]:
    return {"load_average": [load, 0.0, 0.0], "cores": 2, "core_share": share}


def test_a_machine_is_busy_when_it_is_loaded_or_shares_its_cores() -> None:
    assert not is_busy(found(0.3, 1.0))
    assert is_busy(found(1.5, 1.0))
    assert is_busy(found(0.3, 0.6))


def test_conditions_are_of_this_process() -> None:
    here = conditions("wall")
    assert here["cores"] == os.cpu_count()
    assert 0 < here["core_share"] <= 1.01
    assert here["versions"].keys() >= {"audiolm-pytorch", "transformers"}
    assert 2**20 < available_memory() < 2**50
