"""Train the coarse stage: the codec's first codebooks, given the semantic tokens.

From top to bottom: crops of cached tokens; lay the codes out in the delay pattern; replace some codes and some semantic
tokens, since in use both are generated; leave out all semantic tokens of some crops, since guidance compares with such
a pass; predict every code; keep the averaged weights with the lowest validation loss; check perplexity against
baselines.

A crop is as many frames longer than the window as the delay pattern runs past it: in use, too, codes go on there.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from model.config import PRESETS
from model.stages import CoarseStage
from model.tokens import delay
from model.training.crops import FRAMES_PER_TOKEN, Crops, TokenCrops, musical_tokens
from model.training.embedding import start_from_codebooks
from model.training.frozen import load_codebooks
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

VALIDATION_ROWS = 12
UNTOLD = 0.1  # share of crops without semantic tokens


def loss_of(forward: Callable[..., Tensor], stage: CoarseStage, crops: Crops, *, noise: bool) -> Tensor:
    """Mean negative log-likelihood of a code, in nats."""
    none, codebooks = stage.none_id, stage.num_codebooks
    codes = hide_padding(crops.codes[:, :codebooks], FRAMES_PER_TOKEN * crops.lengths, none)
    clusters = stage.config.conditioning_vocab
    semantic = hide_padding(crops.semantic[:, None], crops.lengths, clusters)[:, 0]
    steps = stage.max_length
    seen, told = codes, semantic
    if noise:
        untold = torch.rand(len(semantic), 1, device=semantic.device) < UNTOLD
        seen, told = with_noise(codes, none), with_noise(semantic, clusters).masked_fill(untold, clusters)
    prompts = prompt_lengths(crops.lengths, stage.config, FRAMES_PER_TOKEN, styled=noise)
    logits = forward(delay(seen, steps, none), told, seen, prompts)  # (B, N, K, V)
    return cross_entropy(logits, delay(codes, steps, none).transpose(1, 2), none)


def train(options: TrainingOptions) -> Report:
    """Train into `options.out / "coarse"`, from the tokens under `options.out / "cache"`."""
    config = PRESETS[options.preset].coarse
    cache = options.out / "cache"
    data = TokenCrops.open(options.data, cache, "train", with_codes=True, often=options.often)
    valid = TokenCrops.open(options.data, cache, "valid", with_codes=True)

    torch.manual_seed(options.seed)
    stage = CoarseStage(config)
    musical = musical_tokens(data, config.conditioning_vocab)
    if stage.musical is not None and musical is not None:
        stage.musical[:-1] = musical
    start_from_codebooks(stage, load_codebooks(options.out))
    run = stage_run(options, stage)
    forward = torch.compile(stage) if options.compile else stage
    rows = options.batch or batch_size(config, run.device)
    length = -(-stage.max_length // FRAMES_PER_TOKEN)  # semantic frames of a crop
    held_out = valid.draw(np.random.default_rng(0), VALIDATION_ROWS, length).to(run.device)

    def validate() -> None:
        with torch.no_grad(), run.autocast():
            loss = float(loss_of(run.averaged["model"], stage, held_out, noise=False))
        run.log(valid_loss=loss)
        run.save_weights("model", score=loss)

    for _ in run:
        crops = data.draw(run.rng, rows, length).to(run.device)
        with run.autocast():
            loss = loss_of(forward, stage, crops, noise=True)
        norm = run.update(loss)
        run.log(loss=loss, gradient_norm=norm)
        if run.due("validation", VALIDATION_MINUTES):
            validate()
    validate()

    row = perplexities(run.best_module("model"), range(config.num_codebooks), data, valid)
    return run.finish(checks(row), perplexity=row["perplexity"], valid_loss=run.best)
