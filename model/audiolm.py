"""From a clip to its continuations, in this process: the whole of AudioLM (arXiv 2209.03143) in reading order.

prompt -> semantic tokens and codes -> semantic stage -> coarse stage -> fine stage -> samples -> seam.

Decisions held here: the prompt is the end of the clip, cut so that its last sample ends a semantic frame; the parts'
rates and vocabularies are checked against each other when they are put together; what comes back is exactly
`round(seconds * 16000)` samples long, after the clip's own untouched samples. Knows no files and no HTTP.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from model.bundle import SHIPPED, BundleInfo, load_bundle
from model.codec import Codec
from model.config import SAMPLE_RATE
from model.detector import Detector
from model.errors import ConfigError, GenerationError
from model.generation import fine_windows, generate_coarse, generate_fine, generate_semantic
from model.linear import replace_linears
from model.rendering import cuts_of, ease_seam, render
from model.sampling import Sampling
from model.stages import CoarseStage, FineStage, SemanticStage, Stage
from model.tokenizer import SemanticTokenizer

Progress = Callable[[str, float], None]  # (stage, fraction of it done)

MAX_SECONDS = 3600.0
MAX_CONTINUATIONS = 64


@dataclass(frozen=True)
class GenerationSettings:
    """What a caller may choose. Raises GenerationError for a value out of range.

    temperature multiplies the bundle's own temperature of each stage; 0 takes the likeliest token. top_k and top_p
    narrow what is sampled from; None leaves it open. Continuation i of several uses seed + i.
    """

    seconds: float = 5.0
    temperature: float = 1.0
    top_k: int | None = None
    top_p: float | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        if not 1 / SAMPLE_RATE <= self.seconds <= MAX_SECONDS:
            raise GenerationError(
                f"seconds is {self.seconds}; it must be above 0 and at most {MAX_SECONDS:g}"
            )
        if not 0 <= self.temperature <= 10:
            raise GenerationError(f"temperature is {self.temperature}; it must be from 0 to 10")
        if self.top_k is not None and self.top_k < 1:
            raise GenerationError(f"top_k is {self.top_k}; it must be at least 1")
        if self.top_p is not None and not 0 < self.top_p <= 1:
            raise GenerationError(f"top_p is {self.top_p}; it must be above 0 and at most 1")
        if not 0 <= self.seed < 2**62:
            raise GenerationError(f"seed is {self.seed}; it must be from 0 to 2^62 - 1")

    @property
    def num_samples(self) -> int:
        return round(self.seconds * SAMPLE_RATE)

    @property
    def sampling(self) -> dict[str, float | int | None]:
        """How tokens are drawn, but for the seed."""
        return {"temperature": self.temperature, "top_k": self.top_k, "top_p": self.top_p}


@dataclass(frozen=True)
class Continuation:
    """waveform [N + M]: the clip and its continuation. codes [K, T] and semantic [S]: of prompt and continuation.

    prompt_samples: N. stage_seconds: wall clock of each step, of all continuations made together.
    """

    waveform: Tensor
    prompt_samples: int
    codes: Tensor
    semantic: Tensor
    stage_seconds: dict[str, float]


class AudioLM:
    """The five parts, fitting together. Raises ConfigError when they do not."""

    def __init__(
        self,
        codec: Codec,
        tokenizer: SemanticTokenizer,
        semantic: SemanticStage,
        coarse: CoarseStage,
        fine: FineStage,
        info: BundleInfo,
        detector: Detector | None = None,
    ) -> None:
        self.codec, self.tokenizer, self.info, self.detector = codec, tokenizer, info, detector
        self.semantic, self.coarse, self.fine = semantic, coarse, fine
        self._check_fit()

    @classmethod
    def load(cls, path: str | Path | None = None, device: str | torch.device = "cpu") -> AudioLM:
        """Load the bundle at `path`, by default the one that ships. Raises BundleError, ConfigError."""
        bundle = load_bundle(path or SHIPPED, _usable(device))
        parts: dict[str, Any] = bundle.parts
        audiolm = cls(**parts, info=bundle.info)
        audiolm.prepare()
        return audiolm

    def prepare(self) -> None:
        """Turn the parts into their form for inference on the device they are on (see model.linear). Not undone."""
        for stage in (self.semantic, self.coarse, self.fine):
            stage.prepare()
        for part in (self.codec, self.tokenizer):
            replace_linears(part)

    @property
    def device(self) -> torch.device:
        return self.semantic.table.weight.device

    def prompt_of(self, waveform: Tensor) -> Tensor:
        """The end [n] of a clip [N] that conditions generation: whole semantic frames, at most max_prompt_seconds.

        Raises GenerationError when the clip is shorter than one frame.
        """
        return waveform[-self.num_prompt_tokens(waveform.shape[0]) * self.tokenizer.hop_length :]

    def num_prompt_tokens(self, num_samples: int) -> int:
        """Semantic frames of the prompt that a clip of `num_samples` samples gives. Raises as `prompt_of`."""
        frame = self.tokenizer.hop_length
        frames = min(num_samples, int(self.info.max_prompt_seconds * SAMPLE_RATE)) // frame
        if frames == 0:
            raise GenerationError(f"a clip of {num_samples} samples is shorter than one frame of {frame}")
        return frames

    @torch.inference_mode()
    def continue_clip(
        self,
        waveform: Tensor,
        settings: GenerationSettings,
        num_continuations: int = 1,
        progress: Progress | None = None,
    ) -> list[Continuation]:
        """waveform [N] at 16 kHz -> `num_continuations` continuations, made together. Raises GenerationError."""
        if not 1 <= num_continuations <= MAX_CONTINUATIONS:
            raise GenerationError(
                f"num_continuations is {num_continuations}; it must be from 1 to {MAX_CONTINUATIONS}"
            )
        assert waveform.ndim == 1
        clock = _Clock(progress)
        prompt = self.prompt_of(waveform)
        hop, per_frame = self.codec.hop_length, self.tokenizer.hop_length // self.codec.hop_length
        start = prompt.shape[0] // hop  # codec frames of the prompt
        frames = math.ceil(settings.num_samples / hop)  # codec frames to make
        seeds = range(settings.seed, settings.seed + num_continuations)

        with clock.stage("encode"):
            batch = prompt.to(self.device)[None]
            semantic = self.tokenizer.encode(batch).expand(num_continuations, -1)  # (B, S)
            codes = self.codec.encode(batch).expand(num_continuations, -1, -1)  # (B, K, T)
        ahead = self.coarse.conditioning_frames(start + frames) - semantic.shape[1]
        with clock.stage("semantic", ahead) as report:
            sampling = self._sampling(settings, self.semantic, seeds)
            new = generate_semantic(self.semantic, semantic, ahead, sampling, report)
            semantic = torch.cat([semantic, new], 1)
        with clock.stage("coarse", frames) as report:
            sampling = self._sampling(settings, self.coarse, seeds)
            known = codes[:, : self.coarse.num_codebooks]
            coarse = generate_coarse(self.coarse, semantic, known, frames, sampling, report)
        with clock.stage("fine", frames) as report:
            sampling = self._sampling(settings, self.fine, seeds)
            codes = torch.cat([codes, generate_fine(self.fine, coarse, codes, sampling, report)], 2)
        with clock.stage("decode"):
            decoded = self.sound_of(codes, start, batch.expand(num_continuations, -1)).cpu()
            joined = [
                torch.cat([waveform, ease_seam(waveform, row[: settings.num_samples]).clamp(-1, 1)])
                for row in decoded
            ]
        semantic = semantic[:, : math.ceil((start + frames) / per_frame)]
        return [
            Continuation(sound, waveform.shape[0], codes[i].cpu(), semantic[i].cpu(), clock.seconds)
            for i, sound in enumerate(joined)
        ]

    def sound_of(self, codes: Tensor, start: int, past: Tensor) -> Tensor:
        """Sound [B, (T - start) * hop_length] of codes [B, K, T] from frame `start` on, after past [B, P]."""
        frames = codes.shape[2]
        windows = fine_windows(self.fine, start, frames - start)
        return render(self.codec, codes, cuts_of(windows, frames, start, self.codec.context_frames), past)

    def temperatures(self, stage: Stage, factor: float = 1.0) -> tuple[float, ...]:
        """What `stage` draws at, times `factor`: one number for all its codebooks, or one for each."""
        own = self.info.temperatures[stage.number]
        return tuple(factor * each for each in (own if isinstance(own, tuple) else (own,)))

    def _sampling(self, settings: GenerationSettings, stage: Stage, seeds: Sequence[int]) -> Sampling:
        return Sampling.of(
            seeds,
            stage.number,
            temperature=self.temperatures(stage, settings.temperature),
            top_k=settings.top_k,
            top_p=settings.top_p,
            device=self.device,
        )

    def _check_fit(self) -> None:
        semantic, coarse, fine = self.semantic.config, self.coarse.config, self.fine.config
        codec, tokenizer = self.codec, self.tokenizer
        wanted = [
            ("tokenizer and codec: samples per second", tokenizer.sample_rate, codec.sample_rate),
            ("semantic stage: clusters", semantic.vocab_size, tokenizer.num_clusters),
            ("semantic stage: frames per second", semantic.frame_rate, tokenizer.frame_rate),
            ("coarse stage: clusters", coarse.conditioning_vocab, tokenizer.num_clusters),
            ("coarse stage: codes", coarse.vocab_size, codec.codebook_size),
            ("coarse stage: frames per second", coarse.frame_rate, codec.frame_rate),
            ("coarse stage: first codebook", coarse.first_codebook, 0),
            ("fine stage: codes", fine.vocab_size, codec.codebook_size),
            ("fine stage: frames per second", fine.frame_rate, codec.frame_rate),
            ("fine stage: first codebook", fine.first_codebook, coarse.num_codebooks),
            (
                "coarse and fine stage: codebooks",
                coarse.num_codebooks + fine.num_codebooks,
                codec.num_codebooks,
            ),
            (
                "tokenizer: samples per frame beyond whole codec frames",
                tokenizer.hop_length % codec.hop_length,
                0,
            ),
        ]
        for stage, most in ((self.semantic, 1), (self.coarse, coarse.num_codebooks), (self.fine, 1)):
            if (given := len(self.temperatures(stage))) != 1:
                wanted.append((f"{stage.kind} stage: temperatures", given, most))
        for what, value, expected in wanted:
            if value != expected:
                raise ConfigError(
                    f"the parts do not fit: {what}: {value}, not {expected}", code="parts_do_not_fit"
                )


class _Clock:
    """Wall-clock seconds per stage, and who is told about progress."""

    def __init__(self, progress: Progress | None) -> None:
        self.seconds: dict[str, float] = {}
        self._progress = progress or (lambda stage, fraction: None)

    @contextmanager
    def stage(self, name: str, frames: int = 1) -> Iterator[Callable[[int], None]]:
        """Time one stage of `frames` frames; what it yields is told how many were made since the last call."""
        made = 0

        def report(more: int) -> None:
            nonlocal made
            made += more
            self._progress(name, made / frames)

        report(0)
        started = time.perf_counter()
        yield report
        self.seconds[name] = time.perf_counter() - started


def _usable(device: str | torch.device) -> torch.device:
    try:
        chosen = torch.device(device)
        torch.empty(0, device=chosen)
    except (RuntimeError, AssertionError) as error:
        raise ConfigError(f"device {str(device)!r} cannot be used: {str(error).splitlines()[0]}") from error
    return chosen
