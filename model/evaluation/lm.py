"""How well each stage predicts tokens of held-out recordings, beside two baselines that know nothing of context.

Perplexity per codebook: teacher-forced, on windows as long as the stage was trained on. Baselines: the share of each
token in training recordings (unigram) and the same given the token one frame earlier (previous token), smoothed.
Also: which of two token sequences a stage finds likelier, for spotting real words. Knows tokens, not audio files.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from model.audiolm import AudioLM
from model.evaluation.spectral import Waveform
from model.evaluation.statistics import share
from model.stages import AutoregressiveStage, FineStage, SemanticStage
from model.tokens import delay

FINE_PROMPT_SHARE = 0.5  # of a fine window that is given at all levels, as in generation
SMALLEST_WINDOW = 0.25  # shorter rests of a clip, as a share of the window, are left out

Counts = NDArray[np.int64]


@dataclass(frozen=True)
class ClipTokens:
    """One recording: semantic [S] at 25 Hz and codes [K, 2 S] at 50 Hz, int64."""

    semantic: Tensor
    codes: Tensor


@torch.inference_mode()
def tokenize(audiolm: AudioLM, clips: Sequence[Waveform]) -> list[ClipTokens]:
    """Tokens of `clips` [N]; a last semantic frame without both of its codec frames is dropped."""
    ratio = audiolm.tokenizer.hop_length // audiolm.codec.hop_length
    tokens = []
    for clip in clips:
        waveform = torch.from_numpy(clip)[None].to(audiolm.device)
        codes = audiolm.codec.encode(waveform)[0]
        frames = codes.shape[1] // ratio
        semantic = audiolm.tokenizer.encode(waveform)[0, :frames]
        tokens.append(ClipTokens(semantic, codes[:, : frames * ratio]))
    return tokens


def spans(num_frames: int, longest: int, align: int) -> Iterator[tuple[int, int]]:
    """Consecutive windows of at most `longest` frames that start at multiples of `align`."""
    longest = longest // align * align
    for start in range(0, num_frames, longest):
        stop = min(start + longest, num_frames)
        if start == 0 or stop - start >= SMALLEST_WINDOW * longest:
            yield start, stop


def autoregressive_losses(
    stage: AutoregressiveStage, codes: Tensor, semantic: Tensor | None = None
) -> NDArray[np.float64]:
    """-log p of every code [K, T] given all before it (and `semantic` [S], aligned), in nats, [K, T]."""
    levels, frames = codes.shape
    grid = delay(codes[None], stage.num_steps(frames), stage.none_id)  # (1, K, N)
    logits = stage(grid, None if semantic is None else semantic[None])[0]  # (N, K, V)
    losses = []
    for level in range(levels):
        predicted = logits[level : level + frames, level]  # codebook k of frame t is step t + k
        losses.append(F.cross_entropy(predicted.float(), codes[level], reduction="none"))
    return torch.stack(losses).double().cpu().numpy()


def fine_losses(stage: FineStage, codes: Tensor) -> NDArray[np.float64]:
    """-log p of the fine levels of codes [K, T] in the frames after the given ones, in nats, [fine levels, frames]."""
    given = int(codes.shape[1] * FINE_PROMPT_SHARE)
    prompt_frames = torch.tensor([given], device=codes.device)
    losses = []
    for level in range(stage.config.first_codebook, stage.num_levels):
        logits = stage(codes[None], prompt_frames, level)[0, given:]  # (frames, V)
        losses.append(F.cross_entropy(logits.float(), codes[level, given:], reduction="none"))
    return torch.stack(losses).double().cpu().numpy()


class TokenCounts:
    """The two baselines for one codebook, counted on training tokens."""

    def __init__(self, sequences: Sequence[NDArray[np.int64]], vocab_size: int) -> None:
        tokens = np.concatenate(sequences)
        counts = np.bincount(tokens, minlength=vocab_size) + 0.5
        self.unigram = counts / counts.sum()  # [V]
        pairs = np.concatenate([row[:-1] * vocab_size + row[1:] for row in sequences])
        self.pairs: Counts = np.bincount(pairs, minlength=vocab_size**2).reshape(vocab_size, vocab_size)
        self.followers = self.pairs.sum(axis=1)  # [V] how often each token has a successor
        self.kinds = (self.pairs > 0).sum(axis=1)  # [V] how many different successors

    def unigram_losses(self, tokens: NDArray[np.int64]) -> NDArray[np.float64]:
        """-log p of `tokens` [T] from their shares alone."""
        return np.asarray(-np.log(self.unigram[tokens]))

    def previous_losses(self, tokens: NDArray[np.int64]) -> NDArray[np.float64]:
        """-log p of `tokens` [T] given the one before, interpolated after Witten and Bell (1991)."""
        previous, current = tokens[:-1], tokens[1:]
        total = self.followers[previous] + self.kinds[previous]
        backed = self.pairs[previous, current] + self.kinds[previous] * self.unigram[current]
        known = np.where(total > 0, backed / np.maximum(total, 1), self.unigram[current])
        return np.concatenate([self.unigram_losses(tokens[:1]), -np.log(known)])


@torch.inference_mode()
def evaluate_stages(
    audiolm: AudioLM, train: Sequence[ClipTokens], test: Sequence[ClipTokens]
) -> dict[str, Any]:
    """Perplexity of each stage on `test` beside the baselines counted on `train`.

    Returns per stage {"perplexity", "unigram", "previous", "tokens", "levels": [the same per codebook]}: exp of the
    mean loss per token. All three are measured on the same tokens.
    """
    coarse_levels = audiolm.coarse.config.num_codebooks
    return {
        "semantic": stage_row(audiolm.semantic, train, test, range(1), semantic=True),
        "coarse": stage_row(audiolm.coarse, train, test, range(coarse_levels)),
        "fine": stage_row(audiolm.fine, train, test, range(coarse_levels, audiolm.codec.num_codebooks)),
    }


def stage_row(
    stage: AutoregressiveStage | FineStage,
    train: Sequence[ClipTokens],
    test: Sequence[ClipTokens],
    levels: range,
    *,
    semantic: bool = False,
) -> dict[str, Any]:
    """One stage's row of `evaluate_stages`."""
    sequences = [_codes(tokens, semantic)[levels.start : levels.stop].cpu().numpy() for tokens in train]
    counts = [TokenCounts([rows[i] for rows in sequences], stage.vocab_size) for i in range(len(levels))]
    losses: dict[str, list[NDArray[np.float64]]] = {"perplexity": [], "unigram": [], "previous": []}
    for tokens in test:
        codes = _codes(tokens, semantic)
        for start, stop in spans(codes.shape[1], stage.config.max_frames, 2):
            window = codes[:, start:stop]
            if isinstance(stage, FineStage):
                own = fine_losses(stage, window)
            elif isinstance(stage, SemanticStage):
                own = autoregressive_losses(stage, window)
            else:
                aligned = tokens.semantic[start // 2 :]
                own = autoregressive_losses(stage, window[: len(levels)], aligned)
            losses["perplexity"].append(own)
            scored = own.shape[1]
            rows = window[levels.start : levels.stop].cpu().numpy()
            for name in ("unigram", "previous"):
                method = "unigram_losses" if name == "unigram" else "previous_losses"
                found = [
                    getattr(count, method)(row)[-scored:] for count, row in zip(counts, rows, strict=True)
                ]
                losses[name].append(np.stack(found))
    joined = {name: np.concatenate(parts, axis=1) for name, parts in losses.items()}  # each (levels, tokens)
    return {
        **{name: float(np.exp(values.mean())) for name, values in joined.items()},
        "tokens": int(joined["perplexity"].size),
        "levels": [
            {"level": level + 1, **{name: float(np.exp(values[i].mean())) for name, values in joined.items()}}
            for i, level in enumerate(levels)
        ],
    }


def _codes(tokens: ClipTokens, semantic: bool) -> Tensor:
    return tokens.semantic[None] if semantic else tokens.codes


@torch.inference_mode()
def likelihood(audiolm: AudioLM, waveform: Waveform) -> float:
    """Mean log-probability per semantic token of a clip [N], in nats."""
    tokens = audiolm.tokenizer.encode(torch.from_numpy(waveform)[None].to(audiolm.device))
    return -float(
        autoregressive_losses(audiolm.semantic, tokens[:, : audiolm.semantic.config.max_frames]).mean()
    )


def spot_the_word(audiolm: AudioLM, pairs: Sequence[tuple[str, Waveform, Waveform]]) -> dict[str, Any]:
    """Share of pairs (voice, real word, made-up word) whose real word is likelier (sWUGGY, arXiv 2011.11588), of all
    and by voice.

    Log-probabilities are per token, so that the longer word is not the less likely one; a tie counts half.
    """
    won = defaultdict(list)
    for voice, real, made_up in pairs:
        first, second = likelihood(audiolm, real), likelihood(audiolm, made_up)
        won[voice].append(1.0 if first > second else 0.5 if first == second else 0.0)
    return {
        "accuracy": asdict(share(round(sum(map(sum, won.values()))), len(pairs))),
        "by_voice": {voice: asdict(share(round(sum(each)), len(each))) for voice, each in won.items()},
        "chance": 0.5,
    }
