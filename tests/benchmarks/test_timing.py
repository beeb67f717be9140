"""Summing up repetitions, and taking turns."""

from __future__ import annotations

import torch

from tests.benchmarks.timing import Spread, seconds_of, take_turns

CPU = torch.device("cpu")


class Ticks:
    """A clock that moves when it is told to."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def test_a_spread_is_robust_against_one_slow_run() -> None:
    spread = Spread.of([1.0] * 20 + [50.0])
    assert (spread.least, spread.median, spread.high, spread.count) == (1.0, 1.0, 1.0, 21)
    assert spread.width == 0


def test_one_value_has_no_width() -> None:
    assert Spread.of([2.0]) == Spread(2.0, 2.0, 2.0, 2.0, 1)


def test_the_width_is_a_part_of_the_median() -> None:
    assert abs(Spread.of([float(value) for value in range(11)]).width - 8 / 5) < 1e-9


def test_contenders_take_turns_after_one_warm_up() -> None:
    clock, order = Ticks(), []

    def work(name: str, seconds: float) -> None:
        order.append(name)
        clock.now += seconds

    spreads = take_turns(
        {"fast": lambda: work("fast", 1.0), "slow": lambda: work("slow", 3.0)}, 2, clock, CPU, 60.0
    )
    assert order == ["fast", "slow"] * 3
    assert (spreads["fast"].median, spreads["slow"].median) == (1.0, 3.0)


def test_a_spent_budget_ends_the_rounds_but_not_before_the_first() -> None:
    spreads = take_turns({"any": lambda: None}, 5, Ticks(), CPU, budget_seconds=0.0)
    assert spreads["any"].count == 1


def test_seconds_are_of_the_call() -> None:
    clock = Ticks()

    def work() -> None:
        clock.now += 2.5

    assert seconds_of(work, clock, CPU) == 2.5
