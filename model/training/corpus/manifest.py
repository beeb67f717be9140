"""The table of a corpus folder: one row per audio file.

Holds the columns that training and evaluation rely on (model.training.data reads it). Knows nothing about audio.
"""

from __future__ import annotations

import csv
import os
from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields
from pathlib import Path

SPLITS = ("train", "valid", "test")
FILE_NAME = "manifest.csv"


@dataclass(frozen=True)
class Row:
    path: str  # relative to the corpus folder, "/" as separator
    kind: str  # "speech" or "piano"
    speaker: str  # the voice, or the piece; never in more than one split
    split: str  # one of SPLITS
    seconds: float
    licence: str
    source: str  # where it comes from: a repository, a score and an instrument, a voice


COLUMNS = tuple(field.name for field in fields(Row))


def write_manifest(folder: Path, rows: Iterable[Row]) -> Path:
    """Write `manifest.csv` so that a reader sees the old or the new table, never a part of one."""
    path = folder / FILE_NAME
    partial = path.with_name(f"{FILE_NAME}.partial")
    with open(partial, "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows({**asdict(row), "seconds": f"{row.seconds:.3f}"} for row in rows)
    os.replace(partial, path)
    return path
