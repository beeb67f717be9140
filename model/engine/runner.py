"""What the engine's batches do on the device: encode prompts, step, fill fine windows, decode sound.

Decisions held here: on a CPU, prompts, fine windows and sound go one row at a time: they are bound by arithmetic, so
company gains nothing, and alone their bits cannot depend on company. On CUDA they run padded to a fixed number of
rows for the same reason. The model's own functions do the work (`model.generation`, `model.rendering`); this file
only gathers rows and puts results where they belong. Knows no queue and no deadlines, and of threads only that windowed
batches may run on another one.
"""

from __future__ import annotations

import gc
import math
from collections.abc import Callable, Collection, Mapping
from collections.abc import Sequence as Rows
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from model.audiolm import AudioLM
from model.engine.lanes import Lanes, Settings
from model.engine.plan import Plan, Stepped
from model.engine.scheduler import Batch, StageLimits
from model.engine.sequence import Sequence, Sound, Task, WindowJob
from model.engine.stepping import SteppedStage
from model.engine.work import COARSE, DECODE, ENCODE, FINE, SEMANTIC
from model.errors import GenerationError
from model.generation import fill_fine_level, fine_windows, stage_windows
from model.rendering import Cut, cuts_of, ease_seam, render_cut
from model.sampling import Sampling

CUDA_ROWS = 8  # rows of a windowed batch on CUDA, always padded to this many
CHAINED_STEPS = 8  # of an autoregressive batch where one call makes several: on CUDA, and with the kernels
CHAINED_LEVELS = (
    2  # of a fine window in one batch on a CPU: work for a helper while the engine's thread steps
)
WINDOW_LINGER = 0.004  # seconds a windowed CUDA batch waits for company while there is other work

WindowFunction = Callable[[list[np.ndarray[Any, Any]]], list[Any]]


class ModelRunner:
    """Runs AudioLM's stages for up to `slots` sequences of up to `max_seconds` each.

    `window_functions`: further windowed stages by name, each with its share of the time; a function takes windows of
    one shape [n] and returns one result per window."""

    def __init__(
        self,
        model: AudioLM,
        *,
        slots: int,
        max_seconds: float,
        card: Mapping[str, Any] | None = None,
        window_functions: Mapping[str, tuple[WindowFunction, float]] | None = None,
    ) -> None:
        assert slots > 0
        self.model, self.slots, self.max_seconds = model, slots, max_seconds
        self.sample_rate = model.codec.sample_rate
        self.max_prompt_seconds = model.info.max_prompt_seconds
        self.card: Mapping[str, Any] = dict(card or {})
        self.detector = model.detector
        self.device = model.device
        self._window_functions = dict(window_functions or {})
        self._frames_per_token = model.tokenizer.hop_length // model.codec.hop_length
        on_cuda = self.device.type == "cuda"
        self._window_rows = CUDA_ROWS if on_cuda else 1
        windowed = StageLimits(self._window_rows, linger_seconds=WINDOW_LINGER if on_cuda else 0.0)
        chained = on_cuda or model.coarse.transformer.native is not None
        steps = CHAINED_STEPS if chained else 1
        self.stages: Mapping[str, StageLimits] = {
            ENCODE: StageLimits(1),
            SEMANTIC: StageLimits(slots, max_steps=steps, fed_by=(ENCODE,)),
            COARSE: StageLimits(slots, max_steps=steps, fed_by=(ENCODE, SEMANTIC)),
            FINE: replace(windowed, max_steps=1 if on_cuda else CHAINED_LEVELS),
            DECODE: windowed,
            **{
                name: StageLimits(1, max_steps=self._window_rows, share=share)
                for name, (_, share) in self._window_functions.items()
            },
        }
        self.windowed: Collection[str] = (ENCODE, FINE, DECODE, *self._window_functions)
        self._allocate()

    def plan(self, prompt_samples: int, seconds: float) -> Plan:
        """Every length of a continuation. Raises GenerationError for lengths that do not fit."""
        model, rate, hop = self.model, self.sample_rate, self.model.codec.hop_length
        if seconds > self.max_seconds:
            raise GenerationError(f"seconds is {seconds:g}; at most {self.max_seconds:g} can be made")
        tokens = model.num_prompt_tokens(prompt_samples)
        samples = round(seconds * rate)
        known, new = tokens * self._frames_per_token, math.ceil(samples / hop)
        new_tokens = model.coarse.conditioning_frames(known + new) - tokens
        fine = tuple(fine_windows(model.fine, known, new))
        return Plan(
            prompt_seconds=known * hop / rate,
            prompt_frames=known,
            frames=known + new,
            samples=samples,
            lookahead=model.coarse.config.lookahead,
            frames_per_token=self._frames_per_token,
            semantic=Stepped(tuple(stage_windows(model.semantic, tokens, new_tokens)), 0),
            coarse=Stepped(tuple(stage_windows(model.coarse, known, new)), model.coarse.num_codebooks - 1),
            fine=fine,
            levels=model.fine.config.num_codebooks,
            cuts=cuts_of(fine, known + new, known, model.codec.context_frames),
            past_samples=model.codec.past_samples,
        )

    @torch.inference_mode()
    def run(self, batch: Batch) -> list[Any]:
        """See `model.engine.engine.Runner`."""
        tasks = batch.tasks
        if isinstance(tasks[0], WindowJob):
            return [
                self._run_windows(task, batch.work.steps) for task in tasks if isinstance(task, WindowJob)
            ]
        sequences = [task for task in tasks if isinstance(task, Sequence)]
        match batch.stage:
            case "encode":
                return [self._encode(sequence) for sequence in sequences]
            case "semantic" | "coarse" if batch.work.opens:
                for sequence in sequences:
                    self._prefill(batch.stage, sequence)
            case "semantic" | "coarse":
                self._stepped[batch.stage].step(sequences, batch.work.steps)
            case "fine":
                self._fill_fine(sequences, batch.work.steps)
            case "decode":
                return self._decode(sequences)
        self._synchronize()
        return [None] * len(tasks)

    def rows_worked_on(self, batch: Batch) -> int:
        if batch.stage in (FINE, DECODE):
            return max(len(batch.tasks), self._window_rows)
        if batch.stage in self._stepped and not batch.work.opens:
            return self._stepped[batch.stage].rows_stepped
        return len(batch.tasks)

    def device_memory(self) -> dict[str, int]:
        if self.device.type != "cuda":
            return {}
        device = self.device
        return {
            "allocated": torch.cuda.memory_allocated(device),
            "reserved": torch.cuda.memory_reserved(device),
        }

    def leave(self, task: Task) -> None:
        if isinstance(task, Sequence):
            for stage in self._stepped.values():
                stage.leave(task)

    def release_memory(self) -> None:
        gc.collect()
        if self.device.type == "cuda":
            torch.cuda.empty_cache()

    def is_out_of_memory(self, error: Exception) -> bool:
        return isinstance(error, torch.OutOfMemoryError | MemoryError) or "can't allocate memory" in str(
            error
        )

    def is_fatal(self, error: Exception) -> bool:
        return isinstance(error, torch.AcceleratorError)

    def _allocate(self) -> None:
        """Lanes and caches, one slot more than can be asked for: idle rows of a CUDA graph work there."""
        model, slots, device = self.model, self.slots + 1, self.device
        frames = math.ceil((self.max_prompt_seconds + self.max_seconds) * model.codec.frame_rate)
        tokens = model.coarse.conditioning_frames(frames)
        spare = model.codec.num_codebooks + model.coarse.config.lookahead + 2
        clusters = model.tokenizer.num_clusters
        self._lanes = Lanes(slots, tokens, frames, model.codec.num_codebooks, clusters, spare, device)
        self._stepped = {}
        for stage in (model.semantic, model.coarse):
            settings = Settings(slots, stage.number, model.temperatures(stage), device)
            cache = stage.transformer.new_cache(self.slots * stage.passes)
            self._stepped[stage.kind] = SteppedStage(stage, self._lanes, settings, cache)
        self._fine_settings = Settings(slots, model.fine.number, model.temperatures(model.fine), device)

    def _encode(self, sequence: Sequence) -> tuple[Tensor, Tensor]:
        """Tokens [S] and codes [K, T] of the prompt."""
        prompt = self.model.prompt_of(torch.from_numpy(sequence.prompt.waveform)).to(self.device)[None]
        tokens, codes = self.model.tokenizer.encode(prompt)[0], self.model.codec.encode(prompt)[0]
        self._synchronize()
        return tokens, codes

    def _prefill(self, stage: str, sequence: Sequence) -> None:
        assert sequence.slot is not None
        if sequence.done[SEMANTIC] == 0:  # its first work after the prompt was encoded
            self._lanes.open(sequence.slot, *sequence.prompt.tokens)
            self._fine_settings.open(sequence)
        self._stepped[stage].prefill(sequence)

    def _fill_fine(self, sequences: Rows[Sequence], steps: int) -> None:
        """The next `steps` levels of each sequence's next window; windows and levels are alike."""
        stage = self.model.fine
        at, passed = zip(*(divmod(row.done[FINE], row.plan.levels) for row in sequences), strict=True)
        windows = [row.plan.fine[number] for row, number in zip(sequences, at, strict=True)]
        views = [
            self._lanes.codes[row.slot, :, window.start : window.stop]
            for row, window in zip(sequences, windows, strict=True)
        ]
        codes = self._stack(views)
        rows = self._pad(list(sequences))
        first_steps = [
            w.start - row.plan.prompt_frames for row, w in zip(rows, self._pad(windows), strict=True)
        ]
        narrowed = any(row.top_k is not None for row in rows), any(row.top_p is not None for row in rows)
        slots = torch.tensor([row.slot for row in rows], device=self.device)
        sampling: Sampling = self._fine_settings.of(slots, narrowed_k=narrowed[0], narrowed_p=narrowed[1])
        first = stage.config.first_codebook + passed[0]
        origins = torch.tensor(first_steps, device=self.device)
        for level in range(first, first + steps):
            fill_fine_level(stage, codes, windows[0].history, origins, level, sampling)
        for view, made in zip(views, codes, strict=False):
            view[first : first + steps] = made[first : first + steps]

    def _decode(self, sequences: Rows[Sequence]) -> list[Sound]:
        """Sound of each sequence's next cut; cuts are alike."""
        cuts = [row.plan.cuts[row.done[DECODE]] for row in sequences]
        codes = self._stack(
            [
                self._lanes.codes[row.slot, :, cut.first : cut.last]
                for row, cut in zip(sequences, cuts, strict=True)
            ]
        )
        cut = cuts[0]
        past = self._stack([torch.from_numpy(row.past).to(self.device) for row in sequences])
        sound = render_cut(self.model.codec, codes, cut, past).cpu()
        return [
            self._join(row, own, samples) for row, own, samples in zip(sequences, cuts, sound, strict=False)
        ]

    def _join(self, sequence: Sequence, cut: Cut, samples: Tensor) -> Sound:
        """The cut's samples [n], fitted to the prompt if they are the first, and ended where the caller asked."""
        before = (cut.start - sequence.plan.prompt_frames) * self.model.codec.hop_length
        if before == 0:
            samples = ease_seam(torch.from_numpy(sequence.prompt.waveform), samples).clamp(-1, 1)
        return samples[: sequence.plan.samples - before].numpy()

    def _run_windows(self, job: WindowJob, steps: int) -> list[Any]:
        function, _ = self._window_functions[job.stage]
        at = len(job.results)
        return function(job.windows[at : at + steps])

    def _stack(self, rows: list[Tensor]) -> Tensor:
        return torch.stack(self._pad(rows))

    def _pad(self, rows: list[Any]) -> list[Any]:
        """Repeat the first row up to the fixed number of rows."""
        return rows + rows[:1] * (self._window_rows - len(rows))

    def _synchronize(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
