"""Generation: cached equals plain, exact lengths over many windows, seeds that reproduce."""

from __future__ import annotations

from typing import TypeVar

import pytest
import torch
from torch import Tensor

from model.config import PRESETS
from model.errors import GenerationError
from model.generation import (
    FIRST_FINE_FRAMES,
    fine_windows,
    generate_coarse,
    generate_fine,
    generate_semantic,
    reference_coarse,
    reference_fine,
    reference_semantic,
    stage_windows,
)
from model.native.library import library
from model.sampling import Sampling
from model.stages import AutoregressiveStage, CoarseStage, FineStage, SemanticStage, Stage

TINY = PRESETS["tiny"]
CLUSTERS, CODES = TINY.tokenizer.num_clusters, TINY.codec.codebook_size
SEEDS = [3, 2**40, 7]
S = TypeVar("S", bound=Stage)


def lively(stage: S) -> S:
    """Predictions that depend on the context and are far from certain."""
    stage.eval().requires_grad_(False)
    stage.table.weight.mul_(12)
    for block in stage.transformer.blocks:
        block.projection.weight.mul_(30)
        block.down.weight.mul_(30)
    if isinstance(stage, AutoregressiveStage) and stage.style is not None:
        torch.nn.init.normal_(stage.style.inner.weight)
        torch.nn.init.normal_(stage.style.outer.weight)
        if stage.style.before is not None:
            torch.nn.init.normal_(stage.style.before.weight)
    if isinstance(stage, AutoregressiveStage) and stage.musical is not None:
        stage.musical[4:12] = True  # prompts of either kind
    if isinstance(stage, AutoregressiveStage) and stage.struck is not None:
        stage.struck[:-1:3] = True
        torch.nn.init.normal_(stage.table.weight[stage.none_row + 1 :])
    return stage


@pytest.fixture(scope="module")
def semantic() -> SemanticStage:
    torch.manual_seed(0)
    return lively(SemanticStage(TINY.semantic))


@pytest.fixture(scope="module")
def coarse() -> CoarseStage:
    torch.manual_seed(1)
    return lively(CoarseStage(TINY.coarse))


@pytest.fixture(scope="module")
def fine() -> FineStage:
    torch.manual_seed(2)
    return lively(FineStage(TINY.fine))


def ids(*shape: int, below: int, seed: int = 0) -> Tensor:
    return torch.randint(below, shape, generator=torch.Generator().manual_seed(seed))


def settings(stage: Stage, seeds: list[int] = SEEDS, temperature: float = 1.0, **limits: float) -> Sampling:
    return Sampling.of(seeds, stage.number, temperature=temperature, **limits)  # type: ignore[arg-type]


def rows_of(seed: int = 0) -> tuple[Tensor, Tensor]:
    """Prompts of 30 semantic frames: [3, 30] and codes [3, 12, 60]."""
    return ids(3, 30, below=CLUSTERS, seed=seed), ids(3, 12, 60, below=CODES, seed=seed)


@pytest.mark.parametrize("temperature", [1.0, 0.0])
def test_semantic_generation_equals_the_reference_over_several_windows(
    semantic: SemanticStage, temperature: float
) -> None:
    prompt, _ = rows_of()
    made = generate_semantic(semantic, prompt, 130, settings(semantic, temperature=temperature))
    assert len(stage_windows(semantic, 30, 130)) == 3
    assert made.shape == (3, 130)
    assert torch.equal(
        made, reference_semantic(semantic, prompt, 130, settings(semantic, temperature=temperature))
    )
    if temperature:
        assert made.unique().numel() > 8


def test_coarse_generation_equals_the_reference_over_several_windows(coarse: CoarseStage) -> None:
    tokens, codes = ids(3, coarse.conditioning_frames(60 + 130), below=CLUSTERS), rows_of()[1]
    sampling = settings(coarse, top_k=20, top_p=0.95)
    made = generate_coarse(coarse, tokens, codes[:, :4], 130, sampling)
    assert len(stage_windows(coarse, 60, 130)) == 2
    assert made.shape == (3, 4, 130)
    assert torch.equal(made, reference_coarse(coarse, tokens, codes[:, :4], 130, sampling))
    assert made.unique().numel() > 20


def test_fine_generation_equals_the_reference_over_several_windows(fine: FineStage) -> None:
    codes, lower = rows_of()[1], ids(3, 4, 130, below=CODES, seed=5)
    made = generate_fine(fine, lower, codes, settings(fine))
    assert [w.stop - w.known for w in fine_windows(fine, 60, 130)] == [FIRST_FINE_FRAMES, 75, 5]
    assert made.shape == (3, 12, 130)
    assert torch.equal(made[:, :4], lower)
    assert torch.equal(made, reference_fine(fine, lower, codes, settings(fine)))


def test_a_row_is_the_same_alone_and_among_others(
    semantic: SemanticStage, coarse: CoarseStage, fine: FineStage
) -> None:
    prompt, codes = rows_of()
    one = slice(1, 2)
    tokens = generate_semantic(semantic, prompt, 40, settings(semantic))
    assert torch.equal(
        tokens[one], generate_semantic(semantic, prompt[one], 40, settings(semantic, SEEDS[one]))
    )
    joined = torch.cat([prompt, tokens], 1)
    lower = generate_coarse(coarse, joined, codes[:, :4], 40, settings(coarse))
    assert torch.equal(
        lower[one], generate_coarse(coarse, joined[one], codes[one, :4], 40, settings(coarse, SEEDS[one]))
    )
    whole = generate_fine(fine, lower, codes, settings(fine))
    assert torch.equal(whole[one], generate_fine(fine, lower[one], codes[one], settings(fine, SEEDS[one])))


def test_seeds_reproduce_and_differ(semantic: SemanticStage) -> None:
    prompt = rows_of()[0][:1].expand(2, -1)
    first = generate_semantic(semantic, prompt, 60, settings(semantic, [5, 6]))
    again = generate_semantic(semantic, prompt, 60, settings(semantic, [5, 6]))
    assert torch.equal(first, again)
    assert not torch.equal(first[0], first[1])


def test_a_longer_output_begins_like_a_shorter_one(semantic: SemanticStage, coarse: CoarseStage) -> None:
    prompt, codes = rows_of()
    short = generate_semantic(semantic, prompt, 20, settings(semantic))
    long = generate_semantic(semantic, prompt, 120, settings(semantic))
    assert torch.equal(long[:, :20], short)
    tokens = torch.cat([prompt, long], 1)
    assert torch.equal(
        generate_coarse(coarse, tokens, codes[:, :4], 100, settings(coarse))[..., :30],
        generate_coarse(coarse, tokens, codes[:, :4], 30, settings(coarse)),
    )


@pytest.mark.parametrize("frames", [1, 2, 3, 99, 100, 101, 251])
def test_lengths_are_exact_and_every_id_is_a_code(
    semantic: SemanticStage, coarse: CoarseStage, fine: FineStage, frames: int
) -> None:
    prompt, codes = rows_of()
    tokens = generate_semantic(semantic, prompt[:1], frames, settings(semantic, [1], temperature=30.0))
    assert tokens.shape == (1, frames) and 0 <= int(tokens.min()) <= int(tokens.max()) < CLUSTERS
    told = torch.cat([prompt[:1], tokens], 1)
    lower = generate_coarse(coarse, told, codes[:1, :4], frames, settings(coarse, [1], temperature=30.0))
    assert lower.shape == (1, 4, frames) and 0 <= int(lower.min()) <= int(lower.max()) < CODES
    made = generate_fine(fine, lower, codes[:1], settings(fine, [1], temperature=30.0))
    assert made.shape == (1, 12, frames) and 0 <= int(made.min()) <= int(made.max()) < CODES


def test_an_empty_prompt_is_a_start_from_nothing(semantic: SemanticStage, coarse: CoarseStage) -> None:
    nothing = torch.zeros(1, 0, dtype=torch.int64)
    tokens = generate_semantic(semantic, nothing, 10, settings(semantic, [1]))
    assert torch.equal(tokens, reference_semantic(semantic, nothing, 10, settings(semantic, [1])))
    codes = generate_coarse(
        coarse, tokens, torch.zeros(1, 4, 0, dtype=torch.int64), 10, settings(coarse, [1])
    )
    assert codes.shape == (1, 4, 10)


def test_progress_counts_every_frame(semantic: SemanticStage, fine: FineStage) -> None:
    prompt, codes = rows_of()
    told: list[int] = []
    generate_semantic(semantic, prompt, 130, settings(semantic), told.append)
    assert sum(told) == 130 and len(told) == 3
    told.clear()
    generate_fine(fine, ids(3, 4, 80, below=CODES), codes, settings(fine), told.append)
    assert told == [FIRST_FINE_FRAMES, 30]


def test_what_cannot_be_made_is_named(semantic: SemanticStage, coarse: CoarseStage, fine: FineStage) -> None:
    prompt, codes = rows_of()
    with pytest.raises(GenerationError, match="0 frames"):
        generate_semantic(semantic, prompt, 0, settings(semantic))
    with pytest.raises(GenerationError, match=r"outside 0\.\.15"):
        generate_semantic(semantic, prompt + CLUSTERS, 5, settings(semantic))
    with pytest.raises(GenerationError, match="59 frames"):
        generate_coarse(coarse, prompt, codes[:, :4, :59], 5, settings(coarse))
    with pytest.raises(GenerationError, match="3 coarse"):
        generate_fine(fine, codes[:, :3], codes, settings(fine))


@pytest.mark.parametrize("kernels", [True, False])
def test_prepared_stages_reproduce_whatever_shares_their_batch(kernels: bool) -> None:
    torch.manual_seed(4)
    stage = lively(CoarseStage(TINY.coarse))
    stage.prepare(kernels=kernels)
    tokens, codes = ids(16, 80, below=CLUSTERS), ids(16, 4, 60, below=CODES)
    together = generate_coarse(stage, tokens, codes, 100, settings(stage, list(range(16))))
    for row in (0, 9):
        at = slice(row, row + 1)
        alone = generate_coarse(stage, tokens[at], codes[at], 100, settings(stage, [row]))
        assert torch.equal(alone, together[at])


@pytest.mark.skipif(library() is None, reason="this machine has no kernels")
def test_the_style_of_the_whole_prompt_reaches_windows_that_no_longer_hold_it(coarse: CoarseStage) -> None:
    tokens, codes = torch.zeros(1, 300, dtype=torch.int64), ids(1, 4, 160, below=CODES)
    assert stage_windows(coarse, 160, 200)[-1].start > 40
    other = codes.clone()
    other[:, :, :20] = (other[:, :, :20] + 1) % CODES  # before every window
    first, second = (
        generate_coarse(coarse, tokens, row, 200, settings(coarse, [1])) for row in (codes, other)
    )
    assert not torch.equal(first[..., -100:], second[..., -100:])


def test_kernels_reproduce_the_uncached_reference_to_the_bit() -> None:
    torch.manual_seed(5)
    semantic, coarse, fine = (
        lively(kind(config))
        for kind, config in (
            (SemanticStage, TINY.semantic),
            (CoarseStage, TINY.coarse),
            (FineStage, TINY.fine),
        )
    )
    for stage in (semantic, coarse, fine):
        stage.prepare()
    prompt, codes = rows_of()
    assert (
        len(set(semantic.is_music(prompt).tolist())) == 2
    )  # rows that make one pass beside rows that make two
    tokens = generate_semantic(semantic, prompt, 90, settings(semantic))
    assert torch.equal(tokens, reference_semantic(semantic, prompt, 90, settings(semantic)))
    tokens = torch.cat([prompt, tokens], 1)
    arguments = tokens, codes[:, :4], 130
    made = generate_coarse(coarse, *arguments, settings(coarse))
    assert torch.equal(made, reference_coarse(coarse, *arguments, settings(coarse)))
    whole = generate_fine(fine, made[:, :, :80], codes, settings(fine))
    assert torch.equal(whole[:1], generate_fine(fine, made[:1, :, :80], codes[:1], settings(fine, SEEDS[:1])))


def test_outputs_stay_what_they_were(semantic: SemanticStage, coarse: CoarseStage, fine: FineStage) -> None:
    prompt, codes = rows_of()
    tokens = generate_semantic(semantic, prompt[:1], 12, settings(semantic, [0], temperature=4.0))
    assert tokens[0].tolist() == GOLDEN_SEMANTIC
    lower = generate_coarse(coarse, prompt[:1], codes[:1, :4], 3, settings(coarse, [0]))
    assert lower[0].tolist() == GOLDEN_COARSE
    made = generate_fine(fine, lower, codes[:1], settings(fine, [0]))
    assert made[0, 4:, 0].tolist() == GOLDEN_FINE


GOLDEN_SEMANTIC = [4, 13, 15, 6, 9, 8, 2, 1, 4, 2, 4, 13]
GOLDEN_COARSE = [[9, 4, 11], [4, 20, 11], [24, 11, 24], [10, 16, 15]]
GOLDEN_FINE = [5, 26, 8, 19, 0, 0, 25, 9]
