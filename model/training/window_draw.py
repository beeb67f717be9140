"""Windows of sound with what the detector should say of them.

Decisions held here: half of what is heard is ours. The rest is what is easily mistaken for it: recordings through our
codec at any depth, real coarse codes with made fine ones, recordings as they are (people, instruments, synthesizers).
Some windows begin with a recording and go on in a take, as answers of the service do; their label is the share that
is ours, and as many do so and are not ours at all. Half of the recordings carry a watermark, as half of the takes do.
Loudness is drawn alike for both classes and near-silent windows are drawn again.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from model.config import SAMPLE_RATE
from model.training.augmentation import Augmentation
from model.training.data import AudioStore
from model.training.marking import Marker
from model.training.take_maker import draw_piece
from model.training.takes import Samples, TakeStore

# Shares of what a window is made of.
SOURCES = {
    "continued": 0.42,
    "prompt and continued": 0.08,
    "codec": 0.2,
    "fine": 0.08,
    "raw": 0.17,
    "raw and codec": 0.05,
}
LOUDNESS = (-40.0, -12.0)  # dBFS, of both classes
QUIET = 3e-3  # root mean square below which a window is drawn again
TRIES = 10


@dataclass(frozen=True)
class Windows:
    """waveforms [B, N]; labels [B]: the share of each that is ours."""

    waveforms: Tensor
    labels: Tensor


class WindowDraw:
    """Draws training windows from the recordings and takes of one split."""

    def __init__(
        self, audio: AudioStore, takes: TakeStore, augmentation: Augmentation, marker: Marker | None = None
    ) -> None:
        self._audio, self._takes, self._augmentation, self._marker = audio, takes, augmentation, marker
        self._recordings = {recording.key: index for index, recording in enumerate(audio.files)}
        self._of = {origin: takes.of(origin) for origin in ("continued", "fine", "codec")}
        self._shares = np.array(list(SOURCES.values())) / sum(SOURCES.values())

    def draw(self, rng: np.random.Generator, batch: int, seconds: float) -> Windows:
        """`batch` windows of `seconds`."""
        length = round(seconds * SAMPLE_RATE)
        rows, labels = [], []
        for source in rng.choice(list(SOURCES), size=batch, p=self._shares):
            for _ in range(TRIES):
                waveform, label = self._piece(str(source), round(length * Augmentation.LONGEST_FACTOR), rng)
                if np.sqrt(np.mean(np.square(waveform))) >= QUIET:
                    break
            rows.append(at_loudness(self._augmentation(waveform, length, rng), rng.uniform(*LOUDNESS)))
            labels.append(label)
        return Windows(torch.from_numpy(np.stack(rows)), torch.tensor(labels, dtype=torch.float32))

    def _piece(self, source: str, length: int, rng: np.random.Generator) -> tuple[Samples, float]:
        match source:
            case "continued" | "codec" | "fine":
                waveform = self._takes.waveform(int(rng.choice(self._of[source])))
                return cut(waveform, length, rng), float(source == "continued")
            case "raw":
                waveform = draw_piece(self._audio, rng, min(SAMPLE_RATE, length), length)[0]
                if self._marker is not None and rng.random() < 0.5:
                    waveform = self._marker(waveform, rng)
                return waveform, 0.0
            case "prompt and continued":
                index = int(rng.choice(self._of["continued"]))
                take = self._takes.takes[index]
                recording = self._audio.waveform(self._recordings[take.key])
                before = recording[: take.start + take.prompt_samples]
                waveform, share = joined(before, self._takes.waveform(index), length, rng)
                return waveform, share
            case _:
                before = draw_piece(self._audio, rng, min(SAMPLE_RATE, length), length)[0]
                after = self._takes.waveform(int(rng.choice(self._of["codec"])))
                return joined(before, after, length, rng)[0], 0.0


def cut(waveform: Samples, length: int, rng: np.random.Generator) -> Samples:
    """A random piece of `length` samples, or all there are."""
    start = int(rng.integers(max(1, len(waveform) - length + 1)))
    return waveform[start : start + length]


def joined(before: Samples, after: Samples, length: int, rng: np.random.Generator) -> tuple[Samples, float]:
    """The end of `before` and the start of `after`, `length` samples in all where there are as many, and the share of
    `after`."""
    count = int(rng.uniform(0.1, 0.9) * length)
    head, tail = before[-(length - count) :], after[:count]
    return np.concatenate([head, tail]), len(tail) / (len(head) + len(tail))


def at_loudness(waveform: Samples, decibels: float) -> Samples:
    """[N] at `decibels` full scale, root mean square; peaks above full scale are not cut off."""
    level = float(np.sqrt(np.mean(np.square(waveform))))
    return np.asarray(waveform * (10 ** (decibels / 20) / max(level, 1e-6)), np.float32)
