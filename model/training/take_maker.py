"""Makes takes (see `model.training.takes`) with the trained parts of a run.

Decisions held here: continuations are made side by side, by the functions and at the temperatures of service, half of
the training ones at others; the codec's takes have every depth; half of the training takes carry a watermark, whatever
their origin, and none that is measured on does. Takes belong to the weights they were made with: other weights, another
folder of the cache.
"""

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Mapping, Sequence
from itertools import cycle
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from model.audiolm import AudioLM
from model.bundle import BundleInfo
from model.config import PRESETS, SAMPLE_RATE
from model.generation import generate_coarse, generate_fine, generate_semantic
from model.rendering import ease_seam
from model.sampling import Sampling
from model.stages import Stage
from model.training.data import AudioStore
from model.training.frozen import load_part
from model.training.loop import TrainingOptions, training_device
from model.training.marking import Marker
from model.training.takes import Samples, Take, TakeStore

ROWS = 16  # of a batch: enough to share the reading of the weights
WINDOWS = 3  # a take is as long as so many windows of the detector
PROMPT_SECONDS = (2.0, 3.0, 4.0, 6.0)
TEMPERATURES = (0.7, 1.3)  # factors on the stages' own, for half of the training takes
TRIES = 50  # draws of a recording that is long enough
# What is made in turn. Sound of the codec costs little beside the stages' work, so there is more of it.
ROUND = (
    ("codec", "train"), ("continued", "train"), ("continued", "test"), ("codec", "test"), ("codec", "valid"),
    ("continued", "valid"), ("continued", "train"), ("fine", "train"), ("codec", "train"), ("continued", "train"),
    ("continued", "test"), ("codec", "test"), ("fine", "test"), ("continued", "train"), ("codec", "train"),
    ("continued", "train"), ("continued", "test"), ("codec", "test"),
)  # fmt: skip


class TakeMaker:
    """`model` makes takes of `seconds`, `rows` at a time; `marker` marks half of those for training."""

    def __init__(
        self, model: AudioLM, fingerprint: str, seconds: float, rows: int = ROWS, marker: Marker | None = None
    ) -> None:
        self.model, self.fingerprint = model, fingerprint
        self.seconds, self.rows, self.marker = seconds, rows, marker

    @classmethod
    def load(cls, options: TrainingOptions, marker: Marker | None = None) -> Self:
        """From RUN_DIR. Raises TrainingError when a part has not been trained."""
        preset, run_dir = PRESETS[options.preset], options.out
        parts: dict[str, Any] = {}
        for name in ("codec", "tokenizer", "semantic", "coarse", "fine"):
            parts[name] = load_part(run_dir, name)
        digest = hashlib.sha256()
        for name, part in sorted(parts.items()):
            for key, value in sorted(part.state_dict().items()):
                digest.update(f"{name}.{key}".encode())
                digest.update(value.contiguous().view(-1).view(torch.uint8).numpy().tobytes())
            part.to(training_device(options))
        info = BundleInfo("run", "0", preset.max_prompt_seconds, preset.temperatures)
        model = AudioLM(**parts, info=info)
        model.prepare()
        rows = min(ROWS, options.batch or ROWS)
        return cls(model, digest.hexdigest()[:12], WINDOWS * preset.detector.window_seconds, rows, marker)

    def stores(self, cache: Path, splits: Sequence[str]) -> dict[str, TakeStore]:
        """What there is of these weights under `cache`."""
        return {split: TakeStore(cache / "takes" / self.fingerprint, split) for split in splits}

    def fill(
        self, stores: Mapping[str, TakeStore], audio: Mapping[str, AudioStore], seconds: float, minutes: float
    ) -> None:
        """Make takes in turn until there are `seconds` of training continuations or `minutes` have passed; at least
        one batch of everything. Shows progress."""
        deadline = time.monotonic() + 60 * minutes
        train = stores["train"]
        with tqdm(
            total=round(seconds), initial=round(train.seconds("continued")), unit="s", desc="takes"
        ) as bar:
            for turn, (origin, split) in enumerate(cycle(ROUND)):
                needed = not all(stores[split].of(origin) for origin, split in ROUND)
                done = train.seconds("continued") >= seconds or time.monotonic() > deadline
                if done and not needed:
                    return
                if done and stores[split].of(origin):
                    continue
                rng = np.random.default_rng([turn, len(stores[split].takes)])
                stores[split].append(self.make(origin, audio[split], rng, training=split == "train"))
                bar.update(round(train.seconds("continued")) - bar.n)

    def make(
        self, origin: str, audio: AudioStore, rng: np.random.Generator, *, training: bool
    ) -> list[tuple[Take, Samples]]:
        """A batch of takes of `origin` from recordings of `audio`."""
        model = self.model
        length, second = round(self.seconds * SAMPLE_RATE), SAMPLE_RATE
        longest = model.info.max_prompt_seconds
        chosen = float(rng.choice([s for s in PROMPT_SECONDS if s <= longest] or [longest]))
        chosen = min(chosen, 1.0) if origin == "codec" else chosen
        prompt = model.num_prompt_tokens(round(chosen * second)) * model.tokenizer.hop_length
        least = {"continued": prompt, "fine": prompt + length, "codec": prompt + min(length, 2 * second)}[
            origin
        ]
        factor = float(rng.uniform(*TEMPERATURES)) if training and rng.random() < 0.5 else 1.0
        levels, offset = model.codec.num_codebooks, int(rng.integers(model.codec.num_codebooks))
        clips, takes = [], []
        for row in range(self.rows):
            clip, start, index = draw_piece(
                audio, rng, least, prompt if origin == "continued" else prompt + length
            )
            recording = audio.files[index]
            takes.append(
                Take(
                    origin,
                    recording.key,
                    recording.kind,
                    recording.speaker,
                    start,
                    prompt,
                    seed=int(rng.integers(2**62)),
                    temperature=factor,
                    depth=1 + (offset + row) % levels if origin == "codec" else levels,
                    marked=training and self.marker is not None and row % 2 == 1,
                )
            )
            clips.append(torch.from_numpy(clip).to(model.device))
        if origin == "codec":  # of different lengths
            pairs = zip(clips, takes, strict=True)
            sounds = [self._through_codec(clip[None], prompt, take.depth)[0] for clip, take in pairs]
        else:
            batch = torch.stack(clips)
            given = self._coarse_of(batch, prompt) if origin == "fine" else None
            sounds = list(self._continue(batch[:, :prompt], takes, given))
        return [
            (take, self._finished(clip, sound, take, rng))
            for clip, sound, take in zip(clips, sounds, takes, strict=True)
        ]

    @torch.inference_mode()
    def _through_codec(self, clips: Tensor, prompt: int, depth: int) -> Tensor:
        """What follows the first `prompt` samples of clips [B, N], through `depth` codebooks -> [B, N - prompt]."""
        codes = self.model.codec.encode(clips)[:, :depth]
        start = prompt // self.model.codec.hop_length
        return self.model.sound_of(codes, start, clips[:, :prompt])[:, : clips.shape[1] - prompt]

    @torch.inference_mode()
    def _coarse_of(self, clips: Tensor, prompt: int) -> Tensor:
        """Coarse codes [B, K, frames] of what really follows the first `prompt` samples of clips [B, N]."""
        coarse = self.model.codec.encode(clips)[:, : self.model.coarse.num_codebooks]
        return coarse[:, :, prompt // self.model.codec.hop_length :]

    @torch.inference_mode()
    def _continue(self, prompts: Tensor, takes: Sequence[Take], coarse: Tensor | None) -> Tensor:
        """What follows prompts [B, N], as `AudioLM.continue_clip` makes it; from `coarse` codes on, where given."""
        model = self.model
        start = prompts.shape[1] // model.codec.hop_length
        frames = math.ceil(self.seconds * model.codec.frame_rate)
        codes = model.codec.encode(prompts)  # (B, K, T)
        if coarse is None:
            semantic = model.tokenizer.encode(prompts)  # (B, S)
            ahead = model.coarse.conditioning_frames(start + frames) - semantic.shape[1]
            new = generate_semantic(model.semantic, semantic, ahead, self._sampling(model.semantic, takes))
            semantic = torch.cat([semantic, new], 1)
            known = codes[:, : model.coarse.num_codebooks]
            coarse = generate_coarse(
                model.coarse, semantic, known, frames, self._sampling(model.coarse, takes)
            )
        codes = torch.cat(
            [codes, generate_fine(model.fine, coarse, codes, self._sampling(model.fine, takes))], 2
        )
        return model.sound_of(codes, start, prompts)

    def _finished(self, clip: Tensor, sound: Tensor, take: Take, rng: np.random.Generator) -> Samples:
        """The take [n] as service would send it after its prompt, watermarked if it is to be."""
        eased = ease_seam(clip[: take.prompt_samples].cpu(), sound.float().cpu()).clamp(-1, 1)
        samples = np.asarray(eased.numpy(), np.float32)[: round(self.seconds * SAMPLE_RATE)]
        return self.marker(samples, rng) if take.marked and self.marker is not None else samples

    def _sampling(self, stage: Stage, takes: Sequence[Take]) -> Sampling:
        temperature = self.model.temperatures(stage, takes[0].temperature)
        seeds = [take.seed for take in takes]
        return Sampling.of(seeds, stage.number, temperature=temperature, device=self.model.device)


def draw_piece(
    audio: AudioStore, rng: np.random.Generator, least: int, most: int
) -> tuple[Samples, int, int]:
    """A random piece of `least` to `most` samples of a recording, where it starts, and the recording's index.

    Recordings too short are passed over; where there seem to be no others, silence fills up what is missing.
    """
    for _ in range(TRIES):
        index = int(audio.draw(rng, 1)[0])
        if audio.files[index].num_samples >= least:
            break
    waveform = audio.waveform(index)
    length = min(len(waveform), most)
    start = int(rng.integers(len(waveform) - length + 1))
    piece = waveform[start : start + length]
    return np.pad(piece, (0, max(0, least - length))), start, index
