"""Guidance moves a stage's logits away from those it has without the prompt."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from model.config import PRESETS, StageConfig
from model.generation import generate_coarse, styles_of
from model.guidance import guided_logits, views_of
from model.sampling import Sampling
from model.stages import CoarseStage
from model.tokens import delay

TINY = PRESETS["tiny"].coarse
PROMPT, NEW = 12, 8  # frames


def stage_with(guidance: float) -> CoarseStage:
    torch.manual_seed(0)
    stage = CoarseStage(replace(TINY, guidance=guidance)).eval().requires_grad_(False)
    assert stage.style is not None
    torch.nn.init.normal_(stage.style.outer.weight)
    stage.table.weight.mul_(12)
    return stage


def ids(*shape: int, below: int) -> Tensor:
    return torch.randint(below, shape, generator=torch.Generator().manual_seed(1))


def settings(temperature: float = 1.0) -> Sampling:
    return Sampling.of([5, 6], 1, temperature=temperature)


def test_logits_are_moved_away_from_those_of_the_frames_after_the_prompt_alone() -> None:
    """Against the forward pass that training uses, with the prompt and its style, and from the prompt's end."""
    stage = stage_with(0.7)
    codes, semantic = ids(2, 4, PROMPT + NEW, below=32), ids(2, (PROMPT + NEW) // 2, below=16)
    steps = PROMPT + NEW  # of which the last predicts codes of the last frames
    style = styles_of(stage, codes[:, :, :PROMPT])
    views = views_of(stage, codes, steps, semantic, style, PROMPT)
    hidden = [stage.transformer(view.embed(stage, steps), causal=True)[:, -1] for view in views]

    grid = delay(codes, steps, stage.none_id)
    conditioned = stage.embed_grid(grid, stage.condition(semantic, steps, style))
    with_prompt = stage.logits(stage.transformer(conditioned, causal=True)[:, -1])
    alone = stage(delay(codes[:, :, PROMPT:], NEW, stage.none_id), semantic[:, PROMPT // 2 :])[:, -1]
    torch.testing.assert_close(
        guided_logits(stage, hidden), with_prompt + 0.7 * (with_prompt - alone), rtol=1e-4, atol=1e-4
    )
    assert float((with_prompt - alone).abs().max()) > 0.1  # or there would be nothing to guide by


def test_without_guidance_a_step_is_one_pass() -> None:
    stage = stage_with(0.0)
    assert stage.passes == 1
    assert (
        len(views_of(stage, ids(1, 4, PROMPT, below=32), PROMPT + 1, ids(1, 9, below=16), None, PROMPT)) == 1
    )


@pytest.mark.parametrize("kernels", [True, False])
def test_where_there_is_no_prompt_there_is_nothing_to_guide_by(kernels: bool) -> None:
    """A start from nothing has the same logits in both passes, so guidance changes no draw."""
    made = []
    for guidance in (0.0, 1.0):
        stage = stage_with(guidance)
        stage.prepare(kernels=kernels)
        empty = torch.zeros(2, 4, 0, dtype=torch.int64)
        made.append(generate_coarse(stage, ids(2, 40, below=16), empty, 60, settings()))
    assert torch.equal(*made)


def test_guidance_makes_continuations_of_their_own() -> None:
    made = []
    for guidance in (0.0, 1.0):
        stage = stage_with(guidance)
        made.append(
            generate_coarse(stage, ids(2, 40, below=16), ids(2, 4, PROMPT, below=32), 60, settings(0.5))
        )
    assert not torch.equal(*made)


def test_a_config_from_before_guidance_has_none() -> None:
    values = TINY.to_dict()
    del values["guidance"]
    assert StageConfig.from_dict(values).guidance == 0.0
