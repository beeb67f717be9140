"""What training reads: every recording decoded once into a memory map, and the tokens of frozen parts beside it.

A corpus folder holds `manifest.csv` (path, kind, speaker, split, seconds, licence, source) and audio files.
`AudioStore` packs the files of one split of several corpora into one int16 map at 16 kHz; `TokenStore` packs what a
frozen part made of each file (semantic tokens `[1, S]` or codec codes `[K, T]`), found again by the file's path, so
that the two never depend on each other's order. Knows no model.
"""

from __future__ import annotations

import csv
import hashlib
import json
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import soundfile
import torch
from torchaudio.functional import resample
from tqdm import tqdm

from model.config import SAMPLE_RATE
from model.errors import TrainingError

MANIFEST_COLUMNS = ("path", "kind", "speaker", "split", "seconds", "licence", "source")


@dataclass(frozen=True)
class Recording:
    """One file of a corpus; `key` is its path below the corpus folder, led by that folder's name."""

    key: str
    path: str
    kind: str
    speaker: str
    offset: int  # first sample in the map
    num_samples: int


def read_manifest(folder: Path) -> list[dict[str, str]]:
    """Rows of a corpus manifest. Raises TrainingError when the file or a column is missing."""
    try:
        with open(folder / "manifest.csv", newline="") as file:
            rows = list(csv.DictReader(file))
    except FileNotFoundError:
        raise TrainingError(f"{folder} holds no manifest.csv: make a corpus with `audiolm corpus`") from None
    missing = [name for name in MANIFEST_COLUMNS if rows and name not in rows[0]]
    if missing:
        raise TrainingError(f"{folder}/manifest.csv lacks the columns {missing}")
    return rows


def _decode(path: Path) -> npt.NDArray[np.int16]:
    samples, rate = soundfile.read(path, dtype="float32", always_2d=True)
    waveform = torch.from_numpy(samples.mean(axis=1))
    if rate != SAMPLE_RATE:
        waveform = resample(waveform, rate, SAMPLE_RATE)
    return (waveform.clamp(-1, 1) * 32767).round().to(torch.int16).numpy()


class AudioStore:
    """The recordings of one split, memory mapped."""

    def __init__(
        self,
        recordings: Sequence[Recording],
        samples: npt.NDArray[np.int16],
        often: Mapping[str, float] | None = None,
    ) -> None:
        self.files = list(recordings)
        self._often = often or {}
        self._samples = samples
        members: dict[str, list[int]] = {}
        for index, recording in enumerate(self.files):
            members.setdefault(recording.key.split("/")[0], []).append(index)
        self._corpora = {
            name: (np.array(indices), np.cumsum([self.files[i].num_samples for i in indices]))
            for name, indices in members.items()
        }

    @classmethod
    def build(
        cls, folders: Iterable[Path], cache: Path, split: str, often: Mapping[str, float] | None = None
    ) -> AudioStore:
        """Open the map of `split` under `cache`; decode it first if the manifests changed. Shows progress.

        `often`: how many times as often as it would be a corpus is drawn, by its folder's name.
        """
        wanted: list[tuple[str, Path, dict[str, str]]] = []
        for folder in sorted(folders):  # whatever the order they are named in, one cache
            for row in read_manifest(Path(folder)):
                if row["split"] == split:
                    wanted.append((f"{Path(folder).name}/{row['path']}", Path(folder) / row["path"], row))
        if not wanted:
            raise TrainingError(f"no recording of split {split!r} in the given corpora")
        digest = hashlib.sha256(json.dumps([key for key, _, _ in wanted]).encode()).hexdigest()
        cache.mkdir(parents=True, exist_ok=True)
        index_path, map_path = cache / f"{split}.json", cache / f"{split}.i16"
        if not index_path.exists() or json.loads(index_path.read_text())["digest"] != digest:
            recordings = []
            with open(map_path.with_suffix(".part"), "wb") as file:
                for key, path, row in tqdm(wanted, desc=f"decoding {split}", unit="file"):
                    samples = _decode(path)
                    recordings.append(
                        Recording(key, str(path), row["kind"], row["speaker"], file.tell() // 2, len(samples))
                    )
                    file.write(samples.tobytes())
            os.replace(map_path.with_suffix(".part"), map_path)
            index = {"digest": digest, "files": [asdict(r) for r in recordings]}
            index_path.with_suffix(".part").write_text(json.dumps(index))
            os.replace(index_path.with_suffix(".part"), index_path)
        files = [Recording(**values) for values in json.loads(index_path.read_text())["files"]]
        return cls(files, np.memmap(map_path, np.int16, "r"), often)

    def waveform(self, index: int) -> npt.NDArray[np.float32]:
        """The whole recording, [N] in -1..1."""
        recording = self.files[index]
        samples = self._samples[recording.offset : recording.offset + recording.num_samples]
        return samples.astype(np.float32) / np.float32(32767)

    def hours(self) -> dict[str, float]:
        """Hours of each corpus."""
        return {name: int(ends[-1]) / SAMPLE_RATE / 3600 for name, (_, ends) in sorted(self._corpora.items())}

    def kind(self, corpus: str) -> str:
        """What a corpus holds: the kind of its first recording."""
        return self.files[int(self._corpora[corpus][0][0])].kind

    def draw(
        self, rng: np.random.Generator, batch: int, weights: dict[str, float] | None = None
    ) -> npt.NDArray[np.int64]:
        """Indices of `batch` recordings: a corpus by `weights`, then a file by its length.

        Weights go by the name of the corpus folder; without them a corpus counts by the root of its hours, so that
        a small one is neither lost nor learnt by heart, times what `often` says.
        """
        hours = self.hours()
        if weights is None:
            weights = {name: self._often.get(name, 1.0) * hours[name] ** 0.5 for name in hours}
        share = np.array([weights.get(name, 0.0) for name in hours])
        names = list(hours)
        out = np.empty(batch, np.int64)
        for row, corpus in enumerate(rng.choice(len(names), size=batch, p=share / share.sum())):
            indices, ends = self._corpora[names[corpus]]
            out[row] = indices[int(np.searchsorted(ends, rng.integers(ends[-1]), side="right"))]
        return out

    def crops(
        self, rng: np.random.Generator, batch: int, seconds: float, weights: dict[str, float] | None = None
    ) -> torch.Tensor:
        """Random crops, [batch, seconds * 16000] float32; shorter recordings are padded with silence."""
        length = round(seconds * SAMPLE_RATE)
        out = np.zeros((batch, length), np.float32)
        for row, index in enumerate(self.draw(rng, batch, weights)):
            recording = self.files[index]
            start = int(rng.integers(max(1, recording.num_samples - length + 1)))
            start += recording.offset
            stop = min(start + length, recording.offset + recording.num_samples)
            out[row, : stop - start] = self._samples[start:stop]
        return torch.from_numpy(out / 32767)


class TokenStore:
    """What one frozen part made of every recording of a split: int [rows, frames] each, memory mapped as uint16."""

    def __init__(self, index: dict[str, tuple[int, int]], rows: int, values: npt.NDArray[np.uint16]) -> None:
        self._index, self._rows, self._values = index, rows, values

    def __contains__(self, key: str) -> bool:
        return key in self._index

    def tokens(self, key: str) -> npt.NDArray[np.int64]:
        """Tokens of the recording `key`, [rows, frames]."""
        offset, frames = self._index[key]
        flat = self._values[offset : offset + self._rows * frames]
        return flat.reshape(self._rows, frames).astype(np.int64)

    @classmethod
    def open(cls, path: Path) -> TokenStore:
        """Open `path` (the .json beside the map). Raises TrainingError when the tokens were never made."""
        try:
            header = json.loads(path.read_text())
        except FileNotFoundError:
            raise TrainingError(f"{path} is missing: train and cache the part before this one") from None
        index = {key: (int(start), int(frames)) for key, (start, frames) in header["index"].items()}
        return cls(index, header["rows"], np.memmap(path.with_suffix(".u16"), np.uint16, "r"))

    @classmethod
    def build(
        cls,
        path: Path,
        store: AudioStore,
        fingerprint: str,
        encode: Callable[[npt.NDArray[np.float32]], npt.NDArray[np.int64]],
    ) -> TokenStore:
        """Encode every recording of `store` unless `path` already holds all of them from the same weights.

        `encode` maps a waveform [N] to tokens [rows, frames]; `fingerprint` names its weights: other weights,
        other tokens. Recordings already encoded are kept, so a grown corpus costs only what is new.
        """
        path.parent.mkdir(parents=True, exist_ok=True)
        header: dict[str, object] = {}
        if path.exists():
            header = json.loads(path.read_text())
        index: dict[str, tuple[int, int]] = {}
        rows = 1
        if header.get("fingerprint") == fingerprint:
            index = dict(header["index"])  # type: ignore[call-overload]
            rows = int(header["rows"])  # type: ignore[call-overload]
        missing = [i for i, recording in enumerate(store.files) if recording.key not in index]
        if missing:
            map_path = path.with_suffix(".u16")
            with open(map_path, "r+b" if index else "wb") as file:
                file.seek(0, os.SEEK_END)
                for i in tqdm(missing, desc=f"encoding {path.stem}", unit="file"):
                    tokens = encode(store.waveform(i))
                    rows = tokens.shape[0]
                    index[store.files[i].key] = (file.tell() // 2, tokens.shape[1])
                    file.write(np.ascontiguousarray(tokens, np.uint16).tobytes())
            values = {"fingerprint": fingerprint, "rows": rows, "index": index}
            path.with_suffix(".part").write_text(json.dumps(values))
            os.replace(path.with_suffix(".part"), path)
        return cls.open(path)
