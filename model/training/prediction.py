"""What the trainings of the three stages share: run, batch size, learning rate, input noise, and the check at the end.

The check: on whole held-out recordings, every codebook's perplexity must be below that of the better of two baselines
that know no context beyond one frame (model.evaluation.lm). A stage that does not manage that has learnt nothing the
next stage could use.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from model.config import StageConfig
from model.evaluation.lm import ClipTokens, stage_row
from model.stages import AutoregressiveStage, FineStage, SemanticStage, Stage
from model.training.crops import TokenCrops
from model.training.loop import TrainingOptions, TrainingRun, muon
from model.training.report import Check
from model.training.translation import start_stage

FRAMES_PER_STEP = {"cpu": 4_000, "cuda": 64_000}  # a step of the starter takes about 2 s on one CPU core
INPUT_NOISE = 0.05  # share of input ids replaced by random ones: generation reads its own mistakes
PROMPT_SECONDS = (1.0, 6.0)  # of the crop's beginning, that its style is taken from
UNSTYLED = 1 / 7  # share of rows without a style
VALIDATION_MINUTES = 4.0
COUNTED_RECORDINGS = 2_000  # training recordings that the baselines are counted on
CHECKED_RECORDINGS = 48


def batch_size(config: StageConfig, device: torch.device) -> int:
    """Rows of `max_frames` frames in a step of one process."""
    return max(1, FRAMES_PER_STEP.get(device.type, 2_000) // config.max_frames)


def stage_run(options: TrainingOptions, stage: Stage) -> TrainingRun:
    """The run of a stage: its optimizers, and an average of its weights that is what leaves the run."""
    if options.start is not None:
        start_stage(stage, options)
    deep = [module for name, module in stage.named_children() if name != "table"]
    optimizers = muon(deep, stage.table.parameters(), learning_rate(stage.config))
    return TrainingRun(
        replace(options, start=None),
        stage.kind,
        stage.config,
        {"model": stage},
        optimizers,
        averaged=["model"],
        decay=0.995,
    )


def learning_rate(config: StageConfig) -> float:
    """Peak learning rate of the matrices, 4e-3 at width 320 and less for wider models."""
    return 4e-3 * math.sqrt(320 / config.n_embd)


def with_noise(ids: Tensor, vocab_size: int, share: float = INPUT_NOISE) -> Tensor:
    """`ids` of any shape with `share` of those below `vocab_size` replaced by random ones; what is above stays."""
    noisy = torch.where(
        torch.rand(ids.shape, device=ids.device) < share, torch.randint_like(ids, vocab_size), ids
    )
    return torch.where(ids < vocab_size, noisy, ids)


def prompt_lengths(lengths: Tensor, config: StageConfig, frames_per_length: int, *, styled: bool) -> Tensor:
    """How many leading frames of each crop give its style, [B]: as many as prompts have in use, or none.

    The rest of such a crop is predicted as a continuation is. Every seventh row goes without, so that a stage can be
    judged on recordings that have no prompt; with `styled` off, all do.
    """
    known = frames_per_length * lengths
    if not styled:
        return torch.zeros_like(known)
    drawn = torch.empty(known.shape, device=known.device).uniform_(*PROMPT_SECONDS) * config.frame_rate
    drawn = torch.where(torch.rand(known.shape, device=known.device) < UNSTYLED, 0, drawn)
    return torch.minimum(drawn.long(), known)


def hide_padding(codes: Tensor, lengths: Tensor, none_id: int) -> Tensor:
    """codes [B, K, T] with `none_id` from frame lengths [B] on; a target of that id is not counted."""
    beyond = torch.arange(codes.shape[-1], device=codes.device) >= lengths[:, None]  # (B, T)
    return codes.masked_fill(beyond[:, None], none_id)


def cross_entropy(logits: Tensor, targets: Tensor, none_id: int) -> Tensor:
    """Mean over targets [..] that are not `none_id`, of logits [.., V], in nats."""
    return nn.functional.cross_entropy(
        logits.flatten(0, -2).float(), targets.reshape(-1), ignore_index=none_id
    )


def recordings(crops: TokenCrops, count: int, device: torch.device) -> list[ClipTokens]:
    """At most `count` whole recordings, the same ones every time, of all kinds."""
    order = np.random.default_rng(0).permutation(len(crops.audio.files))[:count]
    chosen = (crops.recording(int(i)) for i in order)
    return [
        ClipTokens(*(torch.from_numpy(x).to(device) for x in both)) for both in chosen if both[0].size > 1
    ]


def perplexities(stage: nn.Module, levels: range, train: TokenCrops, held_out: TokenCrops) -> dict[str, Any]:
    """The stage's row of the evaluation table on `held_out` (model.evaluation.lm.stage_row)."""
    assert isinstance(stage, AutoregressiveStage | FineStage)
    device = stage.table.weight.device
    with torch.inference_mode():
        return stage_row(
            stage,
            recordings(train, COUNTED_RECORDINGS, torch.device("cpu")),
            recordings(held_out, CHECKED_RECORDINGS, device),
            levels,
            semantic=isinstance(stage, SemanticStage),
        )


def checks(row: dict[str, Any]) -> list[Check]:
    """Per codebook: perplexity below both baselines."""
    return [
        Check(
            f"codebook {level['level']} perplexity",
            level["perplexity"],
            min(level["unigram"], level["previous"]),
        )
        for level in row["levels"]
    ]
