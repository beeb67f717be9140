"""The stages: ids, embeddings, heads, and what each prediction may know."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from model.config import PRESETS, StageConfig
from model.stages import AutoregressiveStage, CoarseStage, FineStage, SemanticStage, Stage
from model.tokens import delay

TINY = PRESETS["tiny"]
CLUSTERS, CODES = TINY.tokenizer.num_clusters, TINY.codec.codebook_size


def lively(stage: Stage) -> Stage:
    """Fresh weights hardly look at their input: larger ones do."""
    stage.eval().requires_grad_(False)
    stage.table.weight.mul_(20)
    for block in stage.transformer.blocks:
        block.projection.weight.mul_(20)
    if isinstance(stage, AutoregressiveStage) and stage.style is not None:
        torch.nn.init.normal_(stage.style.outer.weight)
        torch.nn.init.normal_(stage.style.inner.weight)
        if stage.style.before is not None:
            torch.nn.init.normal_(stage.style.before.weight)
    if isinstance(stage, AutoregressiveStage) and stage.musical is not None:
        stage.musical[4:12] = True  # prompts of either kind
    if isinstance(stage, AutoregressiveStage) and stage.struck is not None:
        stage.struck[:-1:3] = True
        torch.nn.init.normal_(stage.table.weight[stage.none_row + 1 :])
    return stage


@pytest.fixture
def semantic() -> SemanticStage:
    torch.manual_seed(0)
    stage = lively(SemanticStage(TINY.semantic))
    assert isinstance(stage, SemanticStage)
    return stage


@pytest.fixture
def coarse() -> CoarseStage:
    torch.manual_seed(1)
    stage = lively(CoarseStage(TINY.coarse))
    assert isinstance(stage, CoarseStage)
    return stage


@pytest.fixture
def fine() -> FineStage:
    torch.manual_seed(2)
    stage = lively(FineStage(TINY.fine))
    assert isinstance(stage, FineStage)
    return stage


def ids(*shape: int, below: int, seed: int = 0) -> Tensor:
    return torch.randint(below, shape, generator=torch.Generator().manual_seed(seed))


def test_heads_have_exactly_one_class_per_code(
    semantic: SemanticStage, coarse: CoarseStage, fine: FineStage
) -> None:
    assert semantic(ids(2, 1, 9, below=CLUSTERS)).shape == (2, 9, 1, CLUSTERS)
    grid = delay(ids(2, 4, 10, below=CODES), 13, coarse.none_id)
    assert coarse(grid, ids(2, 7, below=CLUSTERS)).shape == (2, 13, 4, CODES)
    codes = ids(2, 12, 10, below=CODES)
    for level in range(4, 12):
        assert fine(codes, torch.tensor([3, 0]), level).shape == (2, 10, CODES)


def test_the_none_id_is_no_code_and_no_two_levels_share_a_row(coarse: CoarseStage) -> None:
    every = torch.arange(CODES + 1)[:, None].expand(-1, 4)
    rows = coarse.rows(every)
    assert rows[:-1].unique().numel() == 4 * CODES
    assert rows[-1].tolist() == [4 * CODES] * 4


def test_a_step_predicts_from_the_column_before(coarse: CoarseStage) -> None:
    grid, semantic = ids(1, 4, 20, below=CODES), ids(1, 10, below=CLUSTERS)
    changed = grid.clone()
    changed[0, 2, 8] = (changed[0, 2, 8] + 1) % CODES
    difference = (coarse(grid, semantic) - coarse(changed, semantic)).abs().amax((0, 2, 3))
    assert float(difference[:9].max()) < 1e-6
    assert float(difference[9]) > 1e-3


@pytest.mark.parametrize("token", [0, 4, 9])
def test_a_semantic_token_is_seen_two_tokens_ahead(coarse: CoarseStage, token: int) -> None:
    grid, semantic = ids(1, 4, 20, below=CODES), ids(1, 10, below=CLUSTERS)
    changed = semantic.clone()
    changed[0, token] = (changed[0, token] + 1) % CLUSTERS
    difference = (coarse(grid, semantic) - coarse(grid, changed)).abs().amax((0, 2, 3))
    first = max(0, 2 * (token - TINY.coarse.lookahead))
    assert float(difference[first]) > 1e-3
    assert first == 0 or float(difference[:first].max()) < 1e-6


def test_single_steps_embed_what_whole_windows_embed(coarse: CoarseStage) -> None:
    grid, semantic = ids(3, 4, 16, below=CODES), ids(3, 12, below=CLUSTERS)
    conditioning = coarse.condition(semantic, 16)
    assert conditioning is not None
    whole = coarse.embed_grid(grid, conditioning)
    for n in (1, 6, 15):
        torch.testing.assert_close(coarse.embed(grid[..., n - 1], conditioning[:, n]), whole[:, n])
        ahead = semantic[:, n // 2 : n // 2 + 3]
        torch.testing.assert_close(
            coarse.condition_step(ahead, torch.full((3,), n)), conditioning[:, n], rtol=0, atol=0
        )


def test_conditioning_that_ends_early_reads_as_none(coarse: CoarseStage) -> None:
    semantic = ids(1, 6, below=CLUSTERS)
    padded = torch.cat([semantic, torch.full((1, 20), CLUSTERS)], 1)
    short, long = coarse.condition(semantic, 20), coarse.condition(padded, 20)
    assert short is not None and long is not None
    torch.testing.assert_close(short, long, rtol=0, atol=0)
    needed = coarse.conditioning_frames(17)  # 20 steps
    assert needed == 12
    full = coarse.condition(ids(1, needed + 3, below=CLUSTERS), 20)
    exact = coarse.condition(ids(1, needed + 3, below=CLUSTERS)[:, :needed], 20)
    assert full is not None and exact is not None
    torch.testing.assert_close(full, exact, rtol=0, atol=0)


def test_a_style_of_single_frames_is_the_same_whatever_order_they_are_in(coarse: CoarseStage) -> None:
    prompt = ids(2, 4, 12, below=CODES)
    style, turned = coarse.style_of(prompt), coarse.style_of(prompt.flip(2))
    other = coarse.style_of((prompt + 1) % CODES)
    assert style is not None and turned is not None and other is not None
    torch.testing.assert_close(turned, style, rtol=1e-4, atol=1e-5)
    assert float((other - style).abs().max()) > 0.1


def test_a_style_of_frames_together_hears_a_rhythm(semantic: SemanticStage) -> None:
    """The same tokens as often, every fourth frame or in pairs: another style; a beat later, nearly the same."""
    regular = torch.tensor([[1, 0, 0, 0] * 24])
    pairs = torch.tensor([[1, 1, 0, 0, 0, 0, 0, 0] * 12])
    style, later, other = (
        semantic.style_of(tokens[:, None]) for tokens in (regular, regular.roll(2, 1), pairs)
    )
    assert style is not None and later is not None and other is not None
    assert float((other - style).norm()) > 3 * float((later - style).norm()) > 0


def test_a_style_ends_where_its_prompt_ends_and_reaches_every_step(coarse: CoarseStage) -> None:
    prompt, lengths = ids(2, 4, 12, below=CODES), torch.tensor([7, 0])
    styles = coarse.style_of(prompt, lengths)
    alone = coarse.style_of(prompt[:1, :, :7])
    assert styles is not None and alone is not None
    torch.testing.assert_close(styles[:1], alone, rtol=1e-4, atol=1e-5)
    assert not styles[1].any()
    grid, semantic = ids(2, 4, 20, below=CODES), ids(2, 10, below=CLUSTERS)
    change = (coarse(grid, semantic, prompt, lengths) - coarse(grid, semantic)).abs().amax((2, 3))
    assert float(change[0].min()) > 1e-3 and float(change[1].max()) < 1e-6


def test_a_config_from_before_frames_were_seen_together_reads_as_it_was() -> None:
    values = TINY.semantic.to_dict()
    assert StageConfig.from_dict(values).style_frames == 32
    del values["style_frames"], values["pulse"]
    old = StageConfig.from_dict(values)
    assert old.style_frames == 1 and not old.pulse


def test_strokes_tell_the_steps_after_them_only(semantic: SemanticStage) -> None:
    tokens = torch.full((1, 1, 40), 1)  # not struck
    tokens[0, 0, 20] = 2
    plain = semantic.embed_grid(tokens, None)
    semantic.struck[2] = True  # type: ignore[index]
    struck = semantic.embed_grid(tokens, None)
    moved = (struck - plain).abs().amax(-1)[0] > 1e-6
    assert moved.nonzero().flatten().tolist() == list(range(21, 40))


def test_a_new_stage_is_told_nothing_of_strokes_yet() -> None:
    stage = SemanticStage(TINY.semantic)
    pulse = stage.pulse_of(ids(1, 12, below=CLUSTERS), torch.arange(12)[None])
    assert pulse is not None and not pulse.any()


def test_a_new_stage_has_no_style_of_its_own_yet() -> None:
    stage = CoarseStage(TINY.coarse)
    style = stage.style_of(ids(1, 4, 12, below=CODES))
    assert style is not None and not style.any()


def test_a_fine_level_sees_lower_levels_everywhere_and_the_rest_in_the_prompt(fine: FineStage) -> None:
    codes, prompt = ids(1, 12, 20, below=CODES), torch.tensor([8])
    before = fine(codes, prompt, 6)

    def effect(level: int, frame: int) -> float:
        changed = codes.clone()
        changed[0, level, frame] = (changed[0, level, frame] + 1) % CODES
        return float((fine(changed, prompt, 6) - before).abs().max())

    assert effect(5, 15) > 1e-3
    assert effect(11, 3) > 1e-3
    assert effect(6, 15) == 0 and effect(11, 15) == 0


def test_rows_of_different_prompts_and_lengths_share_a_batch(fine: FineStage) -> None:
    codes = ids(2, 12, 20, below=CODES)
    together = fine(codes, torch.tensor([8, 3]), 5, torch.tensor([20, 12]))
    alone = fine(codes[1:, :, :12], torch.tensor([3]), 5)
    torch.testing.assert_close(together[1:, :12], alone, atol=1e-4, rtol=1e-4)


def test_preparing_a_stage_changes_numbers_little_and_shapes_not(
    semantic: SemanticStage, coarse: CoarseStage, fine: FineStage
) -> None:
    grid, tokens, codes = ids(1, 4, 20, below=CODES), ids(1, 10, below=CLUSTERS), ids(1, 12, 20, below=CODES)
    calls = (
        (semantic, (tokens[:, None],)),
        (coarse, (grid, tokens)),
        (fine, (codes, torch.tensor([5]), 7)),
    )
    for stage, arguments in calls:
        before = stage(*arguments)
        stage.prepare()
        after = stage(*arguments)
        assert after.shape == before.shape
        error = (after.float() - before).square().mean().sqrt() / before.square().mean().sqrt()
        assert float(error) < 0.05


def test_presets_fit_the_bundle_that_ships() -> None:
    starter = PRESETS["starter"]
    stages: list[Stage] = [
        SemanticStage(starter.semantic),
        CoarseStage(starter.coarse),
        FineStage(starter.fine),
    ]
    weights = [sum(parameter.numel() for parameter in stage.parameters()) for stage in stages]
    assert sum(weights) < 30e6  # int8: one byte each, of 44 MiB for all parts
    for stage in stages:
        beside = stage.state_dict().keys() - {name for name, _ in stage.named_parameters()}
        assert beside == {"semantic": {"struck", "musical"}, "coarse": {"musical"}, "fine": set()}[stage.kind]


def test_steps_and_windows_count_the_delay(coarse: CoarseStage, semantic: SemanticStage) -> None:
    assert coarse.num_steps(10) == 13 and semantic.num_steps(10) == 10
    assert coarse.max_length == TINY.coarse.max_frames + 3
    assert isinstance(coarse, AutoregressiveStage) and [coarse.number, semantic.number] == [1, 0]
