"""Are continuations sound at all: as loud as their prompts, not silent, not stuck and not looping?

`continue_prompts` makes them; the measures are pure functions of waveforms [N] at 16 kHz or of tokens [S].
The same measures of the true continuations stand beside them, because music and speech repeat too.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from model.audiolm import AudioLM, GenerationSettings
from model.config import SAMPLE_RATE
from model.evaluation.clips import Recording, load
from model.evaluation.spectral import Waveform, log_mel
from model.evaluation.statistics import bootstrap_mean, per_prompt, share

GATE_WINDOW, GATE_HOP = 6400, 1600  # 400 ms blocks that overlap by 75 %
ABSOLUTE_GATE, RELATIVE_GATE = -70.0, -10.0  # dB
LOUDNESS_TOLERANCE = 6.0  # dB
SILENCE_BELOW_PROMPT = 40.0  # dB under the prompt's loudness
SILENT_SHARE = 0.8
LOOP_RATE = 31.25  # log-mel frames per second: 2048-sample windows hop by 512 samples
SHORTEST_LOOP = 0.2  # seconds
LOOPING = 0.9  # correlation of a clip with itself, one loop later
MOVEMENT_RANGE = 3.0  # decades of magnitude
STUCK = 0.25  # share of the prompt's spectral movement
NGRAM = 8  # tokens: a third of a second at 25 Hz


@dataclass(frozen=True)
class Continued:
    """One prompt with what the system made of it and what came next in the recording."""

    recording: Recording
    prompt: Waveform  # [N]
    continuation: Waveform  # [M]
    truth: Waveform  # [<= M]: the recording may end earlier
    semantic: NDArray[np.int64]  # [S] the continuation's tokens
    stage_seconds: dict[str, float]


def continue_prompts(
    audiolm: AudioLM,
    recordings: Sequence[Recording],
    *,
    prompt_seconds: float,
    seconds: float,
    seed: int,
    takes: int = 1,
    progress: Callable[[Recording], None] | None = None,
) -> list[Continued]:
    """Continue the first `prompt_seconds` of each recording by `seconds`, `takes` times, each as a lone caller would.

    A prompt's takes follow each other; take t of clip i draws from seed + i + t * len(recordings)."""
    made = []
    prompt_samples = round(prompt_seconds * SAMPLE_RATE)
    for i, recording in enumerate(recordings):
        clip = load(recording, max_seconds=prompt_seconds + seconds)
        prompt, truth = clip[:prompt_samples], clip[prompt_samples:]
        for take in range(takes):
            settings = GenerationSettings(seconds=seconds, seed=seed + i + take * len(recordings))
            result = audiolm.continue_clip(torch.from_numpy(prompt), settings)[0]
            waveform = result.waveform[result.prompt_samples :].cpu().numpy()
            num_tokens = math.ceil(settings.num_samples / audiolm.tokenizer.hop_length)
            semantic = result.semantic.cpu().numpy()[-num_tokens:]
            made.append(Continued(recording, prompt, waveform, truth, semantic, result.stage_seconds))
        if progress is not None:
            progress(recording)
    return made


def loudness(waveform: Waveform) -> float:
    """Loudness in dB re full scale of the parts that sound: gated as in ITU-R BS.1770, without its filter."""
    padded = np.pad(waveform.astype(np.float64), (0, max(0, GATE_WINDOW - len(waveform))))
    blocks = np.lib.stride_tricks.sliding_window_view(padded, GATE_WINDOW)[::GATE_HOP]
    power = (blocks**2).mean(axis=1)
    sounding = power[power > 10 ** (ABSOLUTE_GATE / 10)]
    if not sounding.size:
        return ABSOLUTE_GATE
    sounding = sounding[sounding >= sounding.mean() * 10 ** (RELATIVE_GATE / 10)]
    return float(10.0 * np.log10(sounding.mean()))


def silent_share(waveform: Waveform, reference_loudness: float) -> float:
    """Share of 20 ms frames more than 40 dB below `reference_loudness` (dB)."""
    frames = waveform[: len(waveform) // 320 * 320].reshape(-1, 320).astype(np.float64)
    level = 10.0 * np.log10((frames**2).mean(axis=1) + 1e-12)
    return float((level < reference_loudness - SILENCE_BELOW_PROMPT).mean())


def movement(waveform: Waveform) -> float:
    """Standard deviation over time of log-mel bands, averaged over bands: near 0 for a held tone or a hum.

    Looks 60 dB down from the loudest point, and not at the windows that reach over the clip's ends.
    """
    picture = log_mel(waveform, 2048)[:, 2:-2]
    if not picture.size:
        return 0.0
    return float(np.maximum(picture, picture.max() - MOVEMENT_RANGE).std(axis=1).mean())


def self_similarity(waveform: Waveform) -> float:
    """Largest correlation of a clip's log-mel picture with itself at any later time; 1 for a perfect loop.

    Bands are freed of their mean first. Lags from 0.2 s to half the clip (the lag matrix of Foote 2000).
    """
    picture = log_mel(waveform, 2048).astype(np.float64)
    picture -= picture.mean(axis=1, keepdims=True)
    length = picture.shape[1]
    best = 0.0
    for lag in range(max(1, round(SHORTEST_LOOP * LOOP_RATE)), length // 2 + 1):
        early, late = picture[:, :-lag], picture[:, lag:]
        norm = math.sqrt(float((early**2).sum() * (late**2).sum()))
        if norm > 1e-9:
            best = max(best, float((early * late).sum()) / norm)
    return best


def repeated_share(tokens: NDArray[np.int64], order: int = NGRAM) -> float:
    """Share of the n-grams of `tokens` [S] that occurred before in it (as in Welleck et al., arXiv 1908.04319)."""
    grams = [tuple(tokens[i : i + order]) for i in range(len(tokens) - order + 1)]
    return 1.0 - len(set(grams)) / len(grams) if grams else 0.0


def evaluate_continuations(
    made: Sequence[Continued], rng: np.random.Generator, takes: int = 1
) -> dict[str, Any]:
    """Shares of continuations that pass each check, means with intervals, and the truth's values beside them.

    Intervals are over prompts, each with `takes` continuations that follow each other in `made`."""
    count = len(made) // takes
    prompts = [loudness(item.prompt) for item in made]
    differences = [loudness(i.continuation) - level for i, level in zip(made, prompts, strict=True)]
    silences = [silent_share(i.continuation, level) for i, level in zip(made, prompts, strict=True)]
    moves = [movement(item.continuation) / max(movement(item.prompt), 1e-6) for item in made]
    loops = [self_similarity(item.continuation) for item in made]
    true_loops = [
        self_similarity(item.truth) if len(item.truth) >= SAMPLE_RATE else math.nan for item in made[::takes]
    ]
    repeats = [repeated_share(item.semantic) for item in made]
    checks = {
        "loudness within 6 dB": sum(abs(value) <= LOUDNESS_TOLERANCE for value in differences),
        "not silent": sum(value < SILENT_SHARE for value in silences),
        "not stuck": sum(value > STUCK for value in moves),
        "not looping": sum(value < LOOPING for value in loops),
    }
    means = {
        "loudness difference (dB)": per_prompt(differences, takes),
        "silent share": per_prompt(silences, takes),
        "movement of the prompt's": per_prompt(moves, takes),
        "self-similarity": per_prompt(loops, takes),
        "self-similarity of the truth": true_loops,
        f"repeated semantic {NGRAM}-grams": per_prompt(repeats, takes),
    }
    return {
        "count": count,
        "checks": {name: asdict(share(passed / takes, count)) for name, passed in checks.items()},
        "means": {name: asdict(bootstrap_mean(values, rng)) for name, values in means.items()},
        "stage_seconds": stage_times(made),
    }


def stage_times(made: Sequence[Continued]) -> dict[str, float]:
    """Wall-clock seconds that each stage takes per second of continuation, and in all ("real-time factor")."""
    sound = sum(len(item.continuation) for item in made) / SAMPLE_RATE
    times: dict[str, float] = {}
    for item in made:
        for stage, spent in item.stage_seconds.items():
            times[stage] = times.get(stage, 0.0) + spent / sound
    return {**times, "real-time factor": sum(times.values())}
