"""Guidance moves a stage's logits away from those it has without the prompt, and music's in a way of its own."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from model.config import PRESETS, StageConfig
from model.generation import generate_coarse, generate_semantic, reference_semantic, styles_of
from model.guidance import guided_logits, views_of
from model.sampling import Sampling
from model.stages import CoarseStage, SemanticStage
from model.tokens import delay

TINY = PRESETS["tiny"].coarse
PROMPT, NEW = 12, 8  # frames
MUSIC, SPEECH = 2, 11  # tokens


def stage_with(guidance: float, music: float | None = None, *, semantic: bool = False) -> CoarseStage:
    torch.manual_seed(0)
    music = guidance if music is None else music
    config = replace(TINY, guidance=guidance, music_guidance=music, semantic_guidance=semantic)
    stage = CoarseStage(config).eval().requires_grad_(False)
    assert stage.style is not None
    torch.nn.init.normal_(stage.style.outer.weight)
    stage.table.weight.mul_(12)
    if stage.musical is not None:
        stage.musical[:8] = True
    return stage


def ids(*shape: int, below: int) -> Tensor:
    return torch.randint(below, shape, generator=torch.Generator().manual_seed(1))


def settings(temperature: float = 1.0) -> Sampling:
    return Sampling.of([5, 6], 1, temperature=temperature)


def test_logits_are_moved_away_from_those_of_the_frames_after_the_prompt_alone() -> None:
    """Against the forward pass that training uses, with the prompt and its style, and from the prompt's end: of speech
    with semantic tokens, of music without, each as far as it is told."""
    stage = stage_with(0.7, 1.5, semantic=True)
    codes, semantic = ids(2, 4, PROMPT + NEW, below=32), ids(2, (PROMPT + NEW) // 2, below=16)
    semantic[0, : PROMPT // 2], semantic[1, : PROMPT // 2] = SPEECH, MUSIC
    music = stage.is_music(semantic[:, : PROMPT // 2])
    assert music.tolist() == [False, True]
    steps = PROMPT + NEW  # of which the last predicts codes of the last frames
    style = styles_of(stage, codes[:, :, :PROMPT])
    views = views_of(stage, codes, steps, semantic, style, PROMPT, music)
    hidden = [stage.transformer(view.embed(stage, steps), causal=True)[:, -1] for view in views]

    grid = delay(codes, steps, stage.none_id)
    conditioned = stage.embed_grid(grid, stage.condition(semantic, steps, style))
    with_prompt = stage.logits(stage.transformer(conditioned, causal=True)[:, -1])
    rest = semantic[:, PROMPT // 2 :].clone()
    rest[1] = TINY.conditioning_vocab
    alone = stage(delay(codes[:, :, PROMPT:], NEW, stage.none_id), rest)[:, -1]
    strength = torch.tensor([0.7, 1.5])[:, None, None]
    torch.testing.assert_close(
        guided_logits(stage, hidden, music),
        with_prompt + strength * (with_prompt - alone),
        rtol=1e-4,
        atol=1e-4,
    )
    assert float((with_prompt - alone).abs().max()) > 0.1  # or there would be nothing to guide by


def test_a_prompt_is_music_if_most_of_its_tokens_are() -> None:
    stage = stage_with(0.0, 1.0)
    prompts = torch.tensor([[MUSIC] * 3 + [SPEECH] * 2, [MUSIC] * 2 + [SPEECH] * 3])
    assert stage.is_music(prompts).tolist() == [True, False]
    assert stage.is_music(prompts[:, :0]).tolist() == [False, False]
    assert stage_with(1.0).is_music(prompts).tolist() == [False, False]  # whose guidance does not ask


@pytest.mark.parametrize("kernels", [True, False])
def test_music_is_guided_beside_speech_that_is_not(kernels: bool) -> None:
    """Rows of one batch; speech goes on as it would without any guidance, music as the plain reference says."""
    made = []
    for strength in (0.0, 2.0):
        torch.manual_seed(0)
        config = replace(PRESETS["tiny"].semantic, guidance=0.0, music_guidance=strength)
        stage = SemanticStage(config).eval().requires_grad_(False)
        stage.table.weight.mul_(12)
        if stage.musical is not None:
            stage.musical[:8] = True
        prompt = torch.tensor([[MUSIC, 5] * 10, [SPEECH, 9] * 10, [3, MUSIC] * 10])
        sampling = Sampling.of([5, 6, 7], 0, temperature=3.0)
        reference = reference_semantic(stage, prompt, 50, sampling)
        stage.prepare(kernels=kernels)
        made.append(generate_semantic(stage, prompt, 50, sampling))
        assert (made[-1] == reference).float().mean() > 0.9  # but for weights rounded to 8 bits
    assert torch.equal(made[0][1], made[1][1])
    assert not torch.equal(made[0][0], made[1][0]) and not torch.equal(made[0][2], made[1][2])


def test_without_guidance_a_step_is_one_pass() -> None:
    stage = stage_with(0.0)
    music = torch.zeros(1, dtype=torch.bool)
    views = views_of(stage, ids(1, 4, PROMPT, below=32), PROMPT + 1, ids(1, 9, below=16), None, PROMPT, music)
    assert stage.passes == len(views) == 1


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
    del values["guidance"], values["music_guidance"], values["semantic_guidance"]
    config = StageConfig.from_dict(values)
    assert config.guidance == config.music_guidance == 0.0 and not config.semantic_guidance
    assert not config.tells_music


def test_a_config_from_before_music_is_guided_by_itself_guides_both_alike() -> None:
    values = TINY.to_dict() | {"guidance": 1.5}
    del values["music_guidance"], values["semantic_guidance"]
    config = StageConfig.from_dict(values)
    assert config.music_guidance == 1.5 and not config.tells_music
