"""Takes: sound that went through the run's codec, kept for the detector to learn from.

A take has one of three origins, and only the first is ours:
- "continued": the continuation of a recording's few seconds by all three stages, as in service; the prompt left out;
- "fine": a recording's own coarse codes with fine codes from the fine stage;
- "codec": a recording through the codec, at any depth.
They lie in one int16 map per split and a file of JSON lines, and are appended batch by batch: interrupted work goes
on where it stopped. Knows no model.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from model.config import SAMPLE_RATE

ORIGINS = ("continued", "fine", "codec")
Samples = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Take:
    """Where a take came from. Samples [start, start + prompt_samples) of the recording `key` were the prompt, and what
    follows them is what "fine" and "codec" were made of. temperature: factor on the stages' own; depth: codebooks that
    were decoded; marked: whether it carries a watermark."""

    origin: str
    key: str
    kind: str
    speaker: str
    start: int
    prompt_samples: int
    seed: int
    temperature: float
    depth: int
    marked: bool
    num_samples: int = 0
    offset: int = 0  # in the map


class TakeStore:
    """The takes of one split, memory mapped."""

    def __init__(self, folder: Path, split: str) -> None:
        self._lines, self._map = folder / f"{split}.jsonl", folder / f"{split}.i16"
        self.takes: list[Take] = []
        if self._lines.exists():
            self.takes = [Take(**json.loads(line)) for line in self._lines.read_text().splitlines()]
        self._samples: npt.NDArray[np.int16] | None = None

    def of(self, origin: str) -> list[int]:
        """Indices of the takes of `origin`."""
        return [index for index, take in enumerate(self.takes) if take.origin == origin]

    def seconds(self, origin: str) -> float:
        return sum(self.takes[index].num_samples for index in self.of(origin)) / SAMPLE_RATE

    def waveform(self, index: int) -> Samples:
        """The whole take, [N] in -1..1."""
        take = self.takes[index]
        if self._samples is None:
            self._samples = np.memmap(self._map, np.int16, "r")
        samples = self._samples[take.offset : take.offset + take.num_samples]
        return samples.astype(np.float32) / np.float32(32767)

    def append(self, takes: Iterable[tuple[Take, Samples]]) -> None:
        """Sound first, then the lines that name it: what an interrupted call left is written over."""
        self._map.parent.mkdir(parents=True, exist_ok=True)
        end = self.takes[-1].offset + self.takes[-1].num_samples if self.takes else 0
        added: list[Take] = []
        with open(self._map, "r+b" if self._map.exists() else "wb") as file:
            file.truncate(2 * end)
            file.seek(2 * end)
            for take, samples in takes:
                added.append(replace(take, offset=end, num_samples=len(samples)))
                file.write((np.clip(samples, -1, 1) * 32767).round().astype("<i2").tobytes())
                end += len(samples)
        with open(self._lines, "a") as file:
            file.writelines(json.dumps(asdict(take)) + "\n" for take in added)
        self.takes += added
        self._samples = None
