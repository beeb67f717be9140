"""Train the fine stage: the codec's remaining codebooks, level by level (VALL-E's NAR, arXiv 2301.02111).

From top to bottom: crops of cached codes; a prompt of random length that shows all levels; one random level per step,
predicted from the levels below it at all other frames; keep the averaged weights with the lowest validation loss;
check perplexity against baselines.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from model.config import PRESETS
from model.stages import FineStage
from model.training.crops import FRAMES_PER_TOKEN, Crops, TokenCrops
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
    stage_run,
    with_noise,
)

LONGEST_PROMPT = 0.75  # of a crop; in use it is up to half a window, and less at the start
NO_PROMPT = 0.1  # share of rows that have none
NOISE = 0.02  # of the codes that are shown: the coarse stage's are generated
VALIDATION_ROWS = 16


def loss_of(
    forward: Callable[..., Tensor],
    stage: FineStage,
    crops: Crops,
    prompts: Tensor,
    level: int,
    *,
    noise: bool,
) -> Tensor:
    """Mean negative log-likelihood of the codes of `level` after prompts [B] frames, in nats."""
    lengths = FRAMES_PER_TOKEN * crops.lengths
    codes = hide_padding(crops.codes, lengths, stage.none_id)
    seen = with_noise(codes, stage.none_id, NOISE) if noise else codes
    logits = forward(seen, prompts, level, lengths)  # (B, T, V)
    given = torch.arange(codes.shape[-1], device=codes.device) < prompts[:, None]
    return cross_entropy(logits, codes[:, level].masked_fill(given, stage.none_id), stage.none_id)


def draw_prompts(rng: np.random.Generator, lengths: Tensor) -> Tensor:
    """Prompt lengths in codec frames [B] for crops of `lengths` [B] semantic frames."""
    shares = rng.uniform(0, LONGEST_PROMPT, len(lengths)) * (rng.random(len(lengths)) >= NO_PROMPT)
    return (torch.from_numpy(shares).to(lengths.device) * FRAMES_PER_TOKEN * lengths).long()


def train(options: TrainingOptions) -> Report:
    """Train into `options.out / "fine"`, from the tokens under `options.out / "cache"`."""
    config = PRESETS[options.preset].fine
    cache = options.out / "cache"
    data = TokenCrops.open(options.data, cache, "train", with_codes=True, often=options.often)
    valid = TokenCrops.open(options.data, cache, "valid", with_codes=True)

    torch.manual_seed(options.seed)
    stage = FineStage(config)
    start_from_codebooks(stage, load_codebooks(options.out))
    run = stage_run(options, stage)
    forward = torch.compile(stage) if options.compile else stage
    rows = options.batch or batch_size(config, run.device)
    length = config.max_frames // FRAMES_PER_TOKEN
    levels = range(config.first_codebook, stage.num_levels)
    fixed = np.random.default_rng(0)
    held_out = valid.draw(fixed, VALIDATION_ROWS, length).to(run.device)
    held_out_prompts = draw_prompts(fixed, held_out.lengths)

    def validate() -> None:
        average = run.averaged["model"]
        with torch.no_grad(), run.autocast():
            losses = [
                float(loss_of(average, stage, held_out, held_out_prompts, k, noise=False)) for k in levels
            ]
        run.log(valid_loss=float(np.mean(losses)))
        run.save_weights("model", score=float(np.mean(losses)))

    for _ in run:
        crops = data.draw(run.rng, rows, length).to(run.device)
        level = int(run.rng.choice(levels))
        with run.autocast():
            loss = loss_of(forward, stage, crops, draw_prompts(run.rng, crops.lengths), level, noise=True)
        norm = run.update(loss)
        run.log(loss=loss, gradient_norm=norm)
        if run.due("validation", VALIDATION_MINUTES):
            validate()
    validate()

    row = perplexities(run.best_module("model"), levels, data, valid)
    return run.finish(checks(row), perplexity=row["perplexity"], valid_loss=run.best)
