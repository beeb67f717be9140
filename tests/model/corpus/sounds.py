"""Sounds that the corpus tests are made of."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import soundfile

RATE = 16_000


def tone(seconds: float, frequency: float = 220.0, level: float = 0.2) -> npt.NDArray[np.float32]:
    time = np.arange(round(seconds * RATE)) / RATE
    return (level * np.sin(2 * np.pi * frequency * time)).astype(np.float32)


def silence(seconds: float) -> npt.NDArray[np.float32]:
    return np.zeros(round(seconds * RATE), dtype=np.float32)


def write_recordings(folder: Path, count: int, seconds: float = 1.5) -> Path:
    """A folder of recordings with a manifest: speaker s0 in train, s1 in valid, s2 in test, and around again."""
    rows = ["path,source_repo,licence,speaker,seconds,split"]
    for number in range(count):
        path = Path("speech", f"s{number % 3}", f"{number:02d}.wav")
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(folder / path, tone(seconds, 200.0 + 20.0 * number), RATE)
        split = ("train", "valid", "test")[number % 3]
        rows.append(f"{path.as_posix()},somebody/speech,CC0 1.0,s{number % 3},{seconds},{split}")
    (folder / "manifest.csv").write_text("\n".join(rows) + "\n")
    return folder


def write_samples(folder: Path) -> Path:
    """A piano of three decaying tones, C3 to C5."""
    folder.mkdir()
    for octave in (3, 4, 5):
        note = tone(2.0, 440.0 * 2.0 ** (octave - 4 - 9 / 12)) * np.exp(-2.0 * np.arange(2 * RATE) / RATE)
        soundfile.write(folder / f"C{octave}.flac", note.astype(np.float32), RATE)
    return folder
