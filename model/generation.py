"""From prompt tokens to the tokens that follow: the three stages' generation loops, cached, and their plain twins.

Outputs of any length are made in windows no longer than a stage was trained on (`model.tokens`); each window's first
positions are the last frames before it. `generate_*` step through a preallocated cache; `reference_*` compute every
step from scratch and are what tests hold this module and the engine against. Steps are counted from the end of the
prompt, so a row's noise depends neither on the windows nor on the prompt's length.

Knows ids; knows no audio, no bundle, no queue.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from model.errors import GenerationError
from model.guidance import View, guided_logits, views_of
from model.native.kernels import NativeSteps
from model.positions import ADVANCE, FIELDS, KNOWN, ORIGIN, SLOT, STEP
from model.sampling import Sampling, sample
from model.stages import AutoregressiveStage, CoarseStage, FineStage, SemanticStage
from model.tokens import Window, growing_windows, undelay, windows
from model.transformer import KVCache

FIRST_FINE_FRAMES = (
    50  # new frames of the first fine window: what the codec's context leaves of them can go out early
)
Progress = Callable[[int], None]  # is told how many frames were made since the last call


@torch.inference_mode()
def generate_semantic(
    stage: SemanticStage, prompt: Tensor, frames: int, sampling: Sampling, progress: Progress | None = None
) -> Tensor:
    """Tokens [B, frames] that follow prompt [B, S] at 25 Hz."""
    return _autoregressive(_cached_window, stage, prompt[:, None], frames, None, sampling, progress)[:, 0]


@torch.inference_mode()
def reference_semantic(stage: SemanticStage, prompt: Tensor, frames: int, sampling: Sampling) -> Tensor:
    """`generate_semantic` without a cache."""
    return _autoregressive(_uncached_window, stage, prompt[:, None], frames, None, sampling, None)[:, 0]


@torch.inference_mode()
def generate_coarse(
    stage: CoarseStage,
    semantic: Tensor,
    prompt: Tensor,
    frames: int,
    sampling: Sampling,
    progress: Progress | None = None,
) -> Tensor:
    """Codes [B, K, frames] that follow prompt [B, K, T] at 50 Hz.

    semantic [B, S] starts with the prompt (T = 2 of its frames) and should go on for
    `stage.conditioning_frames(T + frames)` frames in all; where it ends earlier, the stage is told so.
    """
    return _autoregressive(_cached_window, stage, prompt, frames, semantic, sampling, progress)


@torch.inference_mode()
def reference_coarse(
    stage: CoarseStage, semantic: Tensor, prompt: Tensor, frames: int, sampling: Sampling
) -> Tensor:
    """`generate_coarse` without a cache."""
    return _autoregressive(_uncached_window, stage, prompt, frames, semantic, sampling, None)


def styles_of(stage: AutoregressiveStage, prompt: Tensor) -> Tensor | None:
    """The style of each prompt [B, K, T] as strong as in use, [B, C]; each computed by itself, so that its bits do not
    depend on the others."""
    styles = [stage.style_of(row[None]) for row in prompt]
    found = [stage.config.style * style for style in styles if style is not None]
    return torch.cat(found) if found else None


def stage_windows(stage: AutoregressiveStage, prompt_frames: int, frames: int) -> list[Window]:
    """The windows of an autoregressive stage: what it is given and makes in each."""
    align = stage.conditioning_rate if stage.conditioning_rows else 1
    return windows(prompt_frames, frames, stage.config.max_frames, align)


def fine_windows(stage: FineStage, prompt_frames: int, frames: int) -> list[Window]:
    """The windows of the fine stage, growing from FIRST_FINE_FRAMES new frames."""
    return growing_windows(prompt_frames, frames, stage.config.max_frames, FIRST_FINE_FRAMES)


WindowMaker = Callable[
    [AutoregressiveStage, Tensor, Window, int, "Tensor | None", "Tensor | None", Tensor, Sampling], Tensor
]


def _autoregressive(
    make: WindowMaker,
    stage: AutoregressiveStage,
    prompt: Tensor,
    frames: int,
    semantic: Tensor | None,
    sampling: Sampling,
    progress: Progress | None,
) -> Tensor:
    prompt_frames = prompt.shape[-1]
    align = stage.conditioning_rate if stage.conditioning_rows else 1
    if frames < 1:
        raise GenerationError(f"cannot make {frames} frames")
    if prompt_frames % align:
        raise GenerationError(f"a prompt of {prompt_frames} frames does not end with a semantic frame")
    if prompt.numel() and not 0 <= int(prompt.min()) <= int(prompt.max()) < stage.vocab_size:
        raise GenerationError(f"the prompt holds ids outside 0..{stage.vocab_size - 1}")
    codes = prompt  # [B, K, all frames so far]
    style = styles_of(stage, prompt)
    music = stage.is_music(prompt[:, 0] if semantic is None else semantic[:, : prompt_frames // align])
    for window in stage_windows(stage, prompt_frames, frames):
        seen = None if semantic is None else semantic[:, window.start // align :]
        new = make(stage, codes[..., window.start :], window, prompt_frames, seen, style, music, sampling)
        codes = torch.cat([codes, new], dim=-1)
        if progress is not None:
            progress(new.shape[-1])
    return codes[..., prompt_frames:]


def _cached_window(
    stage: AutoregressiveStage,
    history: Tensor,
    window: Window,
    origin: int,
    semantic: Tensor | None,
    style: Tensor | None,
    music: Tensor,
    sampling: Sampling,
) -> Tensor:
    """Codes [B, K, window.stop - window.known] that follow history [B, K, window.history]."""
    rows, known = history.shape[0], history.shape[-1]
    steps = stage.num_steps(window.frames)
    views = views_of(stage, history, steps, semantic, style, origin - window.start, music)
    cache = stage.transformer.new_cache(rows * stage.passes, steps)  # row b: from slot b * passes on
    first = known + 1  # steps whose previous column is given: one prefill makes the first draw
    hidden = [_prefilled(stage, view.embed(stage, first), cache, v) for v, view in enumerate(views)]
    _draw(stage, hidden, views, known, known, window, origin, music, sampling)
    if stage.transformer.native is not None:
        codes = F.pad(history, (0, steps - known))
        codes[:, 0, known] = views[0].grid[:, 0, known]
        native = NativeSteps(stage, cache, codes, _padded(stage, semantic, steps), style, music)
        fields = {STEP: known + 1, KNOWN: known, ORIGIN: origin - window.start, ADVANCE: 1}
        positions = torch.tensor([[fields.get(field, 0)] * rows for field in range(FIELDS)])
        positions[SLOT] = torch.arange(rows)
        native.run(positions, sampling, steps - known - 1)
        return codes[..., known : window.frames]
    for n in range(known + 1, steps):
        x = torch.stack([view.embed_step(stage, n) for view in views], 1).flatten(0, 1)  # (B * passes, C)
        places = torch.tensor([n - view.left_out for view in views] * rows, device=x.device)
        hidden = list(
            stage.transformer.step(x, cache, places, length=n + 1).view(rows, -1, x.shape[-1]).unbind(1)
        )
        _draw(stage, hidden, views, n, known, window, origin, music, sampling)
    return undelay(views[0].grid, window.frames)[..., known:]


def _prefilled(stage: AutoregressiveStage, prefix: Tensor, cache: KVCache, number: int) -> Tensor:
    """Hidden states [B, C] of the last of prefix [B, T, C]; pass `number` of each row keeps it in the cache."""
    last = prefix.shape[1] - 1
    return torch.cat(
        [
            stage.transformer.prefill(row[None], cache, b * stage.passes + number, last)[:, 0]
            for b, row in enumerate(prefix)
        ]
    )


def _padded(stage: AutoregressiveStage, semantic: Tensor | None, steps: int) -> Tensor | None:
    """Semantic tokens [B, S] that reach as far as `steps` steps look, "none" past the end."""
    if semantic is None:
        return None
    reach = -(-steps // stage.conditioning_rate) + stage.config.lookahead
    lacking = max(0, reach - semantic.shape[1])
    return F.pad(semantic, (0, lacking), value=stage.config.conditioning_vocab).contiguous()


def _uncached_window(
    stage: AutoregressiveStage,
    history: Tensor,
    window: Window,
    origin: int,
    semantic: Tensor | None,
    style: Tensor | None,
    music: Tensor,
    sampling: Sampling,
) -> Tensor:
    """`_cached_window`, every step from scratch."""
    known = history.shape[-1]
    steps = stage.num_steps(window.frames)
    views = views_of(stage, history, steps, semantic, style, origin - window.start, music)
    for n in range(known, steps):
        hidden = [stage.transformer(view.embed(stage, n + 1), causal=True)[:, -1] for view in views]
        _draw(stage, hidden, views, n, known, window, origin, music, sampling)
    return undelay(views[0].grid, window.frames)[..., known:]


def _draw(
    stage: AutoregressiveStage,
    hidden: Sequence[Tensor],
    views: Sequence[View],
    n: int,
    known: int,
    window: Window,
    origin: int,
    music: Tensor,
    sampling: Sampling,
) -> None:
    """Draw column n of the grids from the passes' hidden states [B, C], leaving what the first `known` frames fix."""
    steps = torch.full((hidden[0].shape[0],), window.start + n - origin, device=hidden[0].device)
    ids = sample(guided_logits(stage, hidden, music), sampling, steps)  # (B, K)
    open_from = max(0, n - known + 1)  # codebook k of frame n - k is new if n - k >= known
    for view in views:
        view.grid[:, :open_from, n - view.left_out] = ids[:, :open_from]


@torch.inference_mode()
def generate_fine(
    stage: FineStage, coarse: Tensor, prompt: Tensor, sampling: Sampling, progress: Progress | None = None
) -> Tensor:
    """Codes [B, num_levels, T] that begin with coarse [B, first_codebook, T], after prompt [B, num_levels, T0]."""
    if coarse.shape[1] != stage.config.first_codebook or prompt.shape[1] != stage.num_levels:
        raise GenerationError(
            f"{coarse.shape[1]} coarse and {prompt.shape[1]} prompt levels do not fit the fine stage"
        )
    origin = prompt.shape[-1]
    upper = coarse.new_full((coarse.shape[0], stage.config.num_codebooks, coarse.shape[-1]), stage.none_id)
    codes = torch.cat([prompt, torch.cat([coarse, upper], dim=1)], dim=-1)  # (B, num_levels, T0 + T)
    for window in fine_windows(stage, origin, coarse.shape[-1]):
        for b in range(codes.shape[0]):  # one row per pass: see Transformer.prefill
            row = codes[b : b + 1, :, window.start : window.stop]
            first_steps = torch.tensor([window.start - origin], device=codes.device)
            for level in range(stage.config.first_codebook, stage.num_levels):
                fill_fine_level(stage, row, window.history, first_steps, level, sampling.row(b))
        if progress is not None:
            progress(window.stop - window.known)
    return codes[..., origin:]


def fill_fine_level(
    stage: FineStage, codes: Tensor, known: int, first_steps: Tensor, level: int, sampling: Sampling
) -> None:
    """Draw, in place, one level of codes [B, num_levels, T] after their first `known` frames.

    first_steps [B]: the step of each row's frame 0, counted from the end of the prompt (negative within it).
    """
    rows, _, length = codes.shape
    new = length - known
    prompt_frames = torch.full((rows,), known, device=codes.device)
    frames = torch.arange(known, length, device=codes.device) + first_steps[:, None]  # (B, new)
    hidden = stage.transformer(stage.embed(codes, prompt_frames, level), causal=False, first=known)
    logits = stage.logits(hidden, level).flatten(0, 1)[:, None]  # (B * new, 1, V)
    steps = frames.flatten() * stage.num_levels + level
    codes[:, level, known:] = sample(logits, sampling.repeat(new), steps).view(rows, new)


@torch.inference_mode()
def reference_fine(stage: FineStage, coarse: Tensor, prompt: Tensor, sampling: Sampling) -> Tensor:
    """`generate_fine`, one frame's draw at a time, by the training forward pass."""
    origin, rows = prompt.shape[-1], []
    for b in range(coarse.shape[0]):
        upper = coarse.new_full((1, stage.config.num_codebooks, coarse.shape[-1]), 0)
        codes = torch.cat([prompt[b : b + 1], torch.cat([coarse[b : b + 1], upper], dim=1)], dim=-1)
        for window in fine_windows(stage, origin, coarse.shape[-1]):
            shown = codes[..., window.start : window.stop].clone()
            for level in range(stage.config.first_codebook, stage.num_levels):
                logits = stage(shown, torch.tensor([window.history]), level)[0]
                for t in range(window.history, window.frames):
                    step = torch.tensor([(window.start + t - origin) * stage.num_levels + level])
                    shown[0, level, t] = sample(logits[t][None, None], sampling.row(b), step)[0, 0]
            codes[..., window.start : window.stop] = shown
        rows.append(codes[..., origin:])
    return torch.cat(rows)
