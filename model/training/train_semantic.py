"""Train the semantic stage: the next of 25 tokens per second.

From top to bottom: crops of cached semantic tokens, some of them replaced; predict every next token; keep the averaged
weights with the lowest validation loss; check perplexity against baselines.

Most steps see short crops, without a style. They begin anywhere in a recording, where whole windows begin with most
sentences, and attention costs a quarter: more words are heard in the same time.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from model.config import PRESETS, StageConfig
from model.stages import SemanticStage
from model.tokenizer import SemanticTokenizer
from model.training.crops import Crops, TokenCrops, musical_tokens
from model.training.frozen import load_part
from model.training.loop import Report, TrainingOptions
from model.training.prediction import (
    VALIDATION_MINUTES,
    batch_size,
    checks,
    cross_entropy,
    hide_padding,
    perplexities,
    prompt_lengths,
    stage_run,
    with_noise,
)

VALIDATION_ROWS = 16
SHORT_STEPS = 2 / 3  # share of the steps that see short crops
SHORT = 4  # of them make up one window


def loss_of(
    forward: Callable[..., Tensor], crops: Crops, config: StageConfig, *, noise: bool, styled: bool
) -> Tensor:
    """Mean negative log-likelihood of the next token, in nats. noise: on inputs; styled: most rows have a prompt."""
    vocab_size = config.vocab_size
    grid = hide_padding(crops.semantic[:, None], crops.lengths, vocab_size)  # (B, 1, S)
    seen = with_noise(grid, vocab_size) if noise else grid
    prompts = prompt_lengths(crops.lengths, config, 1, styled=styled)
    return cross_entropy(forward(seen, None, seen, prompts), grid.transpose(1, 2), vocab_size)


def train(options: TrainingOptions) -> Report:
    """Train into `options.out / "semantic"`, from the tokens under `options.out / "cache"`."""
    config = PRESETS[options.preset].semantic
    cache = options.out / "cache"
    data = TokenCrops.open(options.data, cache, "train", with_codes=False, often=options.often)
    valid = TokenCrops.open(options.data, cache, "valid", with_codes=False)

    torch.manual_seed(options.seed)
    stage = SemanticStage(config)
    if stage.struck is not None:
        tokenizer = load_part(options.out, "tokenizer")
        assert isinstance(tokenizer, SemanticTokenizer)
        stage.struck[:-1] = tokenizer.struck
    musical = musical_tokens(data, config.vocab_size)
    if stage.musical is not None and musical is not None:
        stage.musical[:-1] = musical
    run = stage_run(options, stage)
    forward = torch.compile(stage) if options.compile else stage
    rows = options.batch or batch_size(config, run.device)
    held_out = valid.draw(np.random.default_rng(0), VALIDATION_ROWS, config.max_frames).to(run.device)

    def validate() -> None:
        with torch.no_grad(), run.autocast():
            loss = float(loss_of(run.averaged["model"], held_out, config, noise=False, styled=False))
        run.log(valid_loss=loss)
        run.save_weights("model", score=loss)

    for _ in run:
        parts = SHORT if run.rng.random() < SHORT_STEPS else 1
        crops = data.draw(run.rng, rows * parts, config.max_frames // parts).to(run.device)
        with run.autocast():
            loss = loss_of(forward, crops, config, noise=True, styled=parts == 1)
        norm = run.update(loss)
        run.log(loss=loss, gradient_norm=norm)
        if run.due("validation", VALIDATION_MINUTES):
            validate()
    validate()

    row = perplexities(run.best_module("model"), range(1), data, valid)
    return run.finish(checks(row), perplexity=row["perplexity"], valid_loss=run.best)
