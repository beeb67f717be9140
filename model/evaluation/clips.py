"""Recordings for evaluation: whole clips of one split of some corpora, chosen so that speakers take turns.

Reads a corpus folder's `manifest.csv` and decodes only what was chosen. Synthetic speech is kept apart from real
speech: the tables are about real voices. Knows no model.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile
import torch
from torchaudio.functional import resample

from model.config import SAMPLE_RATE
from model.errors import AudioError, TrainingError
from model.evaluation.spectral import Waveform
from model.training.data import read_manifest

SYNTHETIC_SOURCE = "tts"  # how the source of synthesised speech begins in a manifest


@dataclass(frozen=True)
class Recording:
    """One line of a manifest."""

    path: Path
    kind: str  # "speech", "piano", ...; "synthetic" for speech from a text-to-speech program
    speaker: str  # the performer or instrument for music
    split: str  # "train", "valid", "test"
    seconds: float


def read_recordings(folder: Path) -> list[Recording]:
    """Every file in `folder`/manifest.csv. Raises TrainingError when there is no usable manifest."""
    recordings = []
    for row in read_manifest(folder):
        kind = "synthetic" if row["source"].startswith(SYNTHETIC_SOURCE) else row["kind"]
        try:
            seconds = float(row["seconds"])
        except ValueError:
            raise TrainingError(f"{folder}/manifest.csv: seconds is {row['seconds']!r}") from None
        recordings.append(Recording(folder / row["path"], kind, row["speaker"], row["split"], seconds))
    return recordings


def choose(
    recordings: Sequence[Recording],
    *,
    kind: str,
    split: str,
    count: int,
    rng: np.random.Generator,
    min_seconds: float = 0.0,
) -> list[Recording]:
    """At most `count` recordings of `min_seconds` or more: speakers in random order, one clip each per round."""
    by_speaker: dict[str, list[Recording]] = {}
    for recording in recordings:
        if recording.kind == kind and recording.split == split and recording.seconds >= min_seconds:
            by_speaker.setdefault(recording.speaker, []).append(recording)
    speakers = sorted(by_speaker)
    queues = []
    for speaker in (speakers[i] for i in rng.permutation(len(speakers))):
        clips = by_speaker[speaker]
        queues.append([clips[i] for i in rng.permutation(len(clips))])
    chosen: list[Recording] = []
    while queues and len(chosen) < count:
        for queue in queues[: count - len(chosen)]:
            chosen.append(queue.pop())
        queues = [queue for queue in queues if queue]
    return chosen


def load(recording: Recording, *, start_seconds: float = 0.0, max_seconds: float | None = None) -> Waveform:
    """Waveform [N] at 16 kHz mono of one recording, at most `max_seconds` from `start_seconds` on.

    Raises AudioError when the file cannot be read.
    """
    try:
        with soundfile.SoundFile(recording.path) as file:
            rate = file.samplerate
            file.seek(min(int(start_seconds * rate), file.frames))
            wanted = -1 if max_seconds is None else int(max_seconds * rate)
            samples = file.read(wanted, dtype="float32", always_2d=True).mean(axis=1)
    except (OSError, RuntimeError) as error:
        raise AudioError(f"{recording.path}: {error}") from error
    if rate != SAMPLE_RATE:
        samples = resample(torch.from_numpy(samples), rate, SAMPLE_RATE).numpy()
    return np.ascontiguousarray(samples, dtype=np.float32)
