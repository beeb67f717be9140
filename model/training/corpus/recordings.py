"""Real recordings: folders with a table of speakers, splits and licences, cut into clips.

Keeps what the table says (split, speaker, licence), removes gated silence, and cuts long files at quiet
places. A folder without a table is read as one folder per speaker, and whole speakers are drawn into splits.
Played faster or slower, a training recording is another speaker's (Ko et al., Interspeech 2015): pitch, formants and
tempo change together.
"""

from __future__ import annotations

import csv
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from model.errors import TrainingError
from model.training.corpus.manifest import SPLITS
from model.training.corpus.rendering import Clip
from model.training.corpus.waveform import (
    SAMPLE_RATE,
    cut_at_quiet_places,
    read_waveform,
    resample,
    trim_silence,
)

AUDIO_SUFFIXES = frozenset({".wav", ".flac", ".ogg", ".opus", ".mp3", ".aiff"})
MAX_SECONDS = 30.0
MIN_SECONDS = 0.7  # shorter ones are single clicks and breaths
HELD_OUT_SHARE = 0.05  # of speakers, for each of valid and test, where a folder has no table


@dataclass(frozen=True)
class Recording:
    """One file to be cut into clips."""

    file: Path
    path: str  # relative to its folder, as its table names it
    kind: str
    speaker: str
    split: str
    licence: str
    source: str
    speed: float = 1.0

    @property
    def name(self) -> str:
        return f"recording:{self.path}{self._mark}"

    @property
    def _mark(self) -> str:
        """What tells names of this speed from those of others."""
        return "" if self.speed == 1.0 else f"@{self.speed:g}"

    def make(self, rng: np.random.Generator) -> list[Clip]:
        del rng  # nothing about a recording is drawn
        waveform = trim_silence(read_waveform(self.file))
        waveform = resample(waveform, SAMPLE_RATE * self.speed, SAMPLE_RATE)
        stem = str(Path(self.path).with_suffix("")).replace(" ", "_") + self._mark
        return [
            Clip(
                piece,
                f"real/{stem}_{number:03d}",
                self.kind,
                self.speaker + self._mark,
                self.split,
                self.licence,
                self.source,
            )
            for number, piece in enumerate(cut_at_quiet_places(waveform, MAX_SECONDS, 2.0))
            if len(piece) >= MIN_SECONDS * SAMPLE_RATE
        ]


def find_recordings(folder: Path, kind: str) -> list[Recording]:
    """Recordings that a folder's manifest.csv lists below a sub-folder named like `kind`, or all files of a
    folder without a manifest. Raises TrainingError if there are none."""
    if not folder.is_dir():
        raise TrainingError(f"no folder {folder}", code="no_recordings")
    table = folder / "manifest.csv"
    recordings = _listed(table, kind) if table.is_file() else _found(folder, kind)
    if not recordings:
        raise TrainingError(f"{folder} holds no {kind} recordings", code="no_recordings")
    return recordings


def at_speeds(recordings: Sequence[Recording], speeds: Sequence[float]) -> list[Recording]:
    """`recordings`, and those of the training split once more at each of `speeds`."""
    return [
        *recordings,
        *(
            replace(recording, speed=speed)
            for speed in speeds
            for recording in recordings
            if recording.split == "train"
        ),
    ]


def read_table(table: Path) -> list[dict[str, str]]:
    """Rows of a material table with at least path, speaker, split, licence. Raises TrainingError."""
    with open(table, newline="", encoding="utf-8") as file:
        reader = csv.DictReader(file)
        missing = {"path", "speaker", "split", "licence"} - set(reader.fieldnames or ())
        if missing:
            raise TrainingError(f"{table} lacks the column {min(missing)!r}", code="bad_manifest")
        rows = list(reader)
    for row in rows:
        if row["split"] not in SPLITS:
            raise TrainingError(f"{table}: unknown split {row['split']!r}", code="bad_manifest")
    return rows


def _listed(table: Path, kind: str) -> list[Recording]:
    return [
        Recording(
            file=table.parent / row["path"],
            path=row["path"],
            kind=kind,
            speaker=row["speaker"],
            split=row["split"],
            licence=row["licence"],
            source=row.get("source_repo") or row.get("source") or table.parent.name,
        )
        for row in read_table(table)
        if Path(row["path"]).suffix.lower() in AUDIO_SUFFIXES
        and row.get("kind", row["path"].split("/")[0]) == kind
    ]


def _found(folder: Path, kind: str) -> list[Recording]:
    recordings = []
    for file in sorted(folder.rglob("*")):
        if file.suffix.lower() not in AUDIO_SUFFIXES:
            continue
        path = file.relative_to(folder)
        speaker = path.parts[0] if len(path.parts) > 1 else folder.name
        split = split_of(speaker)
        recordings.append(Recording(file, path.as_posix(), kind, speaker, split, "unknown", folder.name))
    return recordings


def split_of(name: str) -> str:
    """A split that follows from the name alone, so that a growing folder moves nobody."""
    draw = int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big") / 2.0**64
    if draw < HELD_OUT_SHARE:
        return "test"
    return "valid" if draw < 2 * HELD_OUT_SHARE else "train"
