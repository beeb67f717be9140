"""What provenance is measured on: sound this system made, and recordings it did not make.

Decisions held here: prompts and recordings are of the split "test", speakers and pieces in turn; generated sound is as
long as the longest clip asked for and can be kept in a file, for making it takes most of a run; what is mixed in or
put beside a clip comes from the split "valid". Knows no mark and no classifier.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from model.audiolm import AudioLM, GenerationSettings
from model.config import SAMPLE_RATE
from model.errors import ConfigError, TrainingError
from model.evaluation.clips import Recording, choose, load
from model.evaluation.spectral import Waveform

PROMPT_SECONDS = 3.0
_KINDS = ("speech", "piano")
_QUIET = 1e-3  # root mean square of a recording's piece that nobody would ask about
_POOL = 12  # recordings that are mixed in

Tick = Callable[[str], None]


@dataclass(frozen=True)
class Sounds:
    """made [N] waveforms of one length, prompts [N] that they continue, recorded [M] of the same length; speech and
    music that attacks mix in."""

    made: list[Waveform]
    prompts: list[Waveform]
    recorded: list[Waveform]
    speech: list[Waveform]
    music: list[Waveform]


def gather(
    model: AudioLM,
    recordings: Sequence[Recording],
    *,
    clips: int,
    seconds: float,
    seed: int,
    kept: Path | None = None,
    tick: Tick = lambda _: None,
) -> Sounds:
    """`clips` generations of `seconds` and as many recordings. Raises TrainingError where the corpora have too few."""
    rng = np.random.default_rng(seed)
    chosen = _in_turn(recordings, "test", clips, max(seconds, PROMPT_SECONDS), rng)
    recorded = [load(recording, max_seconds=seconds) for recording in chosen]
    prompts = [load(recording, max_seconds=PROMPT_SECONDS) for recording in chosen]
    pools = {
        kind: [
            load(recording, max_seconds=12.0)
            for recording in choose(recordings, kind=kind, split="valid", count=_POOL, rng=rng)
        ]
        for kind in _KINDS
    }
    made = _read(kept, model.info.name, model.info.model_version, clips, seconds, seed) if kept else None
    if made is None:
        made = _generate(model, prompts, seconds, seed, tick)
        if kept is not None:
            _write(kept, made, model.info.name, model.info.model_version, seed)
    return Sounds(made, prompts, recorded, pools["speech"], pools["piano"])


def _in_turn(
    recordings: Sequence[Recording], split: str, count: int, seconds: float, rng: np.random.Generator
) -> list[Recording]:
    """Speech and piano in turn."""
    queues = [
        choose(recordings, kind=kind, split=split, count=count, rng=rng, min_seconds=seconds)
        for kind in _KINDS
    ]
    longest = max(map(len, queues))
    chosen = [queue[i] for i in range(longest) for queue in queues if i < len(queue)][:count]
    if len(chosen) < count:
        raise TrainingError(
            f"the corpora hold {len(chosen)} {split} recordings of {seconds:g} s or more; {count} are needed"
        )
    return chosen


def _generate(
    model: AudioLM, prompts: Sequence[Waveform], seconds: float, seed: int, tick: Tick
) -> list[Waveform]:
    made = []
    for i, prompt in enumerate(prompts):
        tick(f"generating {i + 1}/{len(prompts)}")
        settings = GenerationSettings(seconds=seconds, seed=seed + i)
        [continuation] = model.continue_clip(torch.from_numpy(prompt), settings)
        made.append(continuation.waveform[continuation.prompt_samples :].cpu().numpy())
    return made


def _read(
    path: Path, name: str, version: str, clips: int, seconds: float, seed: int
) -> list[Waveform] | None:
    """What an earlier run made with the same bundle, seed and prompts; None where there is none, or too little."""
    if not path.exists():
        return None
    with np.load(path) as stored:
        made, origin = stored["made"], str(stored["origin"])
    if origin != f"{name} {version} seed {seed}":
        raise ConfigError(f"{path} holds what {origin!r} made; remove it or name another file")
    length = round(seconds * SAMPLE_RATE)
    enough = len(made) >= clips and made.shape[1] >= length
    return [row[:length] for row in made[:clips]] if enough else None


def _write(path: Path, made: Sequence[Waveform], name: str, version: str, seed: int) -> None:
    with open(path, "wb") as file:
        np.savez(file, made=np.stack(made), origin=f"{name} {version} seed {seed}")


def pieces(recordings: Sequence[Recording], count: int, seconds: float, seed: int) -> Iterator[Waveform]:
    """At most `count` pieces of `seconds` of recordings of any split and kind, one of each recording per round."""
    rng = np.random.default_rng(seed)
    order = [recordings[i] for i in rng.permutation(len(recordings))]
    start, found = 0.0, 0
    while order:
        order = [recording for recording in order if recording.seconds >= start + seconds]
        for recording in order:
            if found == count:
                return
            piece = load(recording, start_seconds=start, max_seconds=seconds)
            if len(piece) == round(seconds * SAMPLE_RATE) and np.sqrt(np.mean(np.square(piece))) > _QUIET:
                found += 1
                yield piece
        start += seconds
