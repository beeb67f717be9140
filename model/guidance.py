"""Guidance: each step is made twice, with the prompt and without it, and what the prompt makes likelier counts more.

Classifier-free guidance (arXiv 2207.12598) of language models (arXiv 2306.17806). A pass with the prompt sees a whole
window and the prompt's style; a pass without sees the frames after the prompt only, as a stage does in training where
a crop begins and has no style. The logits of the first are moved away from those of the second, `guidance` times as
far again as they are. Both draw the same ids.

Prompts of music guide in a way of their own (`AutoregressiveStage.is_music`): by `music_guidance`, and with
`semantic_guidance` the second pass goes without semantic tokens, too, so that what they make likelier counts more as
well: where a note begins, foremost. Such a stage has learnt to go without (train_coarse.py). In speech the former makes
words repeat, the latter costs likeness of the voice.
Knows ids and stages, no cache and no windows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from model.stages import AutoregressiveStage
from model.tokens import delay


@dataclass(frozen=True)
class View:
    """What one pass sees of a window: delayed codes `grid` [B, K, N] and what is added to each step, [B, N, C], both
    from the window's frame `left_out` on."""

    grid: Tensor
    conditioning: Tensor | None
    left_out: int

    def embed(self, stage: AutoregressiveStage, steps: int) -> Tensor:
        """Embeddings [B, steps - left_out, C] of the window's first `steps` steps."""
        stop = steps - self.left_out
        return stage.embed_grid(
            self.grid[..., :stop], None if self.conditioning is None else self.conditioning[:, :stop]
        )

    def embed_step(self, stage: AutoregressiveStage, step: int) -> Tensor:
        """Embeddings [B, C] of the window's step `step`."""
        at = step - self.left_out
        pulse = stage.pulse_of(self.grid[:, 0], self.grid.new_full((self.grid.shape[0], 1), at))
        return stage.embed(
            self.grid[..., at - 1],
            None if self.conditioning is None else self.conditioning[:, at],
            None if pulse is None else pulse[:, 0],
        )


def views_of(
    stage: AutoregressiveStage,
    history: Tensor,
    num_steps: int,
    semantic: Tensor | None,
    style: Tensor | None,
    prompt_frames: int,
    music: Tensor,
) -> list[View]:
    """The stage's passes over a window of `num_steps` steps that begins with history [B, K, T], of which the first
    `prompt_frames` are the prompt's (none below 0); semantic [B, S] from the window's first frame on, style [B, C];
    music [B] says which prompts are."""
    views = [View(delay(history, num_steps, stage.none_id), stage.condition(semantic, num_steps, style), 0)]
    if stage.passes == 2:
        left_out = max(0, prompt_frames)
        steps = num_steps - left_out
        rest = None if semantic is None else semantic[:, left_out // stage.conditioning_rate :]
        if rest is not None and stage.config.semantic_guidance:
            rest = rest.masked_fill(music[:, None], stage.config.conditioning_vocab)
        grid = delay(history[..., left_out:], steps, stage.none_id)
        views.append(View(grid, stage.condition(rest, steps), left_out))
    return views


def guided_logits(stage: AutoregressiveStage, hidden: Sequence[Tensor], music: Tensor) -> Tensor:
    """Logits [B, K, V] from the hidden states [B, C] of each pass; music [B] says which prompts are."""
    logits = stage.logits(hidden[0])
    if stage.passes == 1:
        return logits
    config = stage.config
    strength = torch.where(music, config.music_guidance, config.guidance)[:, None, None]
    return logits + strength * (logits - stage.logits(hidden[1]))
