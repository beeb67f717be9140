"""The training loop: budgets, resuming, signals, averages."""

from __future__ import annotations

import json
import os
import signal
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from model.errors import TrainingError
from model.training.loop import Check, TrainingOptions, TrainingRun, adamw, learning_rate_scale


class ToyConfig:
    def __init__(self, width: int = 8) -> None:
        self.width = width

    def to_dict(self) -> dict[str, int]:
        return {"width": self.width}


def options(out: Path, **changes: object) -> TrainingOptions:
    values: dict[str, object] = {"preset": "tiny", "data": (), "out": out, "minutes": 1.0, "device": "cpu"}
    return TrainingOptions(**(values | changes))  # type: ignore[arg-type]


def start(chosen: TrainingOptions, width: int = 8) -> tuple[TrainingRun, nn.Module]:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, width), nn.GELU(), nn.Dropout(0.1), nn.Linear(width, 1))
    run = TrainingRun(
        chosen,
        "toy",
        ToyConfig(width),
        {"model": model},
        {"main": adamw(model, 1e-2)},
        averaged=["model"],
        decay=0.9,
    )
    return run, model


def one_step(run: TrainingRun, model: nn.Module) -> Tensor:
    x = torch.from_numpy(run.rng.standard_normal((16, 4))).float()
    loss = (model(x).squeeze(1) - x[:, 0]).square().mean()
    run.update(loss)
    run.log(loss=loss)
    return loss.detach()


def test_a_quarter_of_the_rate_moves_weights_a_quarter_as_far(tmp_path: Path) -> None:
    moved = []
    for rate in (1.0, 0.25):
        run, model = start(options(tmp_path / str(rate), max_steps=1, rate=rate))
        before = model[0].weight.detach().clone()
        for _ in run:
            one_step(run, model)
        moved.append(float((model[0].weight.detach() - before).norm()))
    assert 0.2 < moved[1] / moved[0] < 0.3


def test_loss_falls_and_the_run_leaves_its_files(tmp_path: Path) -> None:
    run, model = start(options(tmp_path, max_steps=150))
    losses = [float(one_step(run, model)) for _ in run]
    assert sum(losses[-30:]) < 0.6 * sum(losses[:30])
    assert run.save_weights("model")
    report = run.finish([Check("loss", losses[-1], 0.5), Check("impossible", 0.0, 1.0, above=True)])
    assert not report.passed and report.checks[0].passed
    assert report.steps == 150
    assert json.loads((tmp_path / "toy/report.json").read_text())["passed"] is False
    weights = load_file(tmp_path / "toy/model.safetensors")
    torch.testing.assert_close(weights, dict(run.averaged["model"].state_dict()), rtol=0, atol=0)
    assert not torch.equal(weights["0.weight"], model.state_dict()["0.weight"])
    last = json.loads((tmp_path / "toy/log.jsonl").read_text().splitlines()[-1])
    assert last["step"] == 150 and last["lr_scale"] < 1e-9


def test_a_resumed_run_ends_with_the_same_weights(tmp_path: Path) -> None:
    run, model = start(options(tmp_path / "whole", max_steps=40))
    for _ in run:
        one_step(run, model)
    first, part = start(options(tmp_path / "halves", max_steps=40))
    with pytest.raises(SystemExit) as stop:
        for step in first:
            one_step(first, part)
            if step == 16:
                os.kill(os.getpid(), signal.SIGTERM)
    assert stop.value.code == 128 + signal.SIGTERM
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    second, resumed = start(options(tmp_path / "halves", max_steps=40, resume=True))
    assert second.step == first.step == 17
    for _ in second:
        one_step(second, resumed)
    torch.testing.assert_close(resumed.state_dict(), model.state_dict(), rtol=0, atol=0)
    torch.testing.assert_close(
        second.averaged["model"].state_dict(), run.averaged["model"].state_dict(), rtol=0, atol=0
    )


def test_a_checkpoint_is_not_overwritten_or_mixed_with_another_config(tmp_path: Path) -> None:
    run, model = start(options(tmp_path, max_steps=2))
    for _ in run:
        one_step(run, model)
    with pytest.raises(TrainingError, match="--resume"):
        start(options(tmp_path, max_steps=2))
    with pytest.raises(TrainingError, match="differs"):
        start(options(tmp_path, max_steps=2, resume=True), width=4)
    finished, _ = start(options(tmp_path, max_steps=2, resume=True))
    assert list(finished) == []


def test_the_budget_is_wall_clock_time(tmp_path: Path) -> None:
    first, model = start(options(tmp_path / "first", max_steps=1))
    for _ in first:
        one_step(first, model)  # takes longer than any later one
    run, model = start(options(tmp_path / "second", minutes=1 / 60 / 5))
    for _ in run:
        one_step(run, model)
    assert 0.2 <= run.elapsed < 10.0  # its last step may have met a busy machine
    assert run.fraction == 1.0


def test_steps_without_a_finite_gradient_change_nothing_and_then_stop_the_run(tmp_path: Path) -> None:
    run, model = start(options(tmp_path, max_steps=100))
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with pytest.raises(TrainingError, match="finite"):
        for _ in run:
            run.update(model(torch.full((1, 4), float("nan"))).sum())
    torch.testing.assert_close(dict(model.state_dict()), before, rtol=0, atol=0)


def test_only_the_best_score_is_kept(tmp_path: Path) -> None:
    run, _ = start(options(tmp_path, max_steps=1))
    assert run.save_weights("model", score=2.0)
    assert not run.save_weights("model", score=2.5)
    assert run.save_weights("model", score=1.0)


def test_the_schedule_warms_up_and_ends_at_zero() -> None:
    scales = [learning_rate_scale(x / 100) for x in range(101)]
    assert 0 < scales[0] < 0.1 and max(scales) == scales[2] == 1.0
    assert scales[100] == pytest.approx(0, abs=1e-12)
    assert all(later < earlier for earlier, later in pairwise(scales[2:]))


def test_adamw_decays_matrices_only() -> None:
    groups = adamw(nn.Linear(3, 2), 1e-3).param_groups
    assert [(g["weight_decay"] > 0, g["params"][0].ndim) for g in groups] == [(True, 2), (False, 1)]
