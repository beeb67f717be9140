"""A bundle: the folder a trained system is loaded from.

`bundle.json` (everything but weights), safetensors files of at most 15 MiB each, and `MODEL_CARD.md`. Loading is
strict: an unknown key, a missing file or tensor, a wrong shape or a wrong checksum stops it with a BundleError that
names the culprit. Nothing in a bundle is executed; there is no pickle. A bundle appears complete or not at all.
Does not know how the parts work together; `model.audiolm` checks that they fit.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from model.codec import SpectralCodec
from model.config import (
    SAMPLE_RATE,
    CodecConfig,
    DetectorConfig,
    StageConfig,
    Temperatures,
    TokenizerConfig,
    to_temperatures,
)
from model.detector import Detector
from model.errors import BundleError, ConfigError
from model.quantization import matrix_names, pack, unpack
from model.stages import CoarseStage, FineStage, SemanticStage
from model.tokenizer import ConformerTokenizer

FORMAT_VERSION = 1
MANIFEST, CARD = "bundle.json", "MODEL_CARD.md"
PARTS = ("codec", "tokenizer", "semantic", "coarse", "fine")
OPTIONAL_PARTS = ("detector",)
INT8_PARTS = ("semantic", "coarse", "fine")  # where rounding noise was found harmless
SHIPPED = Path(__file__).parent / "starter"
MAX_FILE_BYTES = 15 << 20  # what a repository hosts without complaint


@dataclass(frozen=True)
class Kind:
    """One implementation of a part: how `bundle.json` calls it and how it is built."""

    part: str
    name: str
    config: type[CodecConfig] | type[TokenizerConfig] | type[StageConfig] | type[DetectorConfig]
    build: type[nn.Module]


KINDS = (
    Kind("codec", "spectral", CodecConfig, SpectralCodec),
    Kind("tokenizer", "conformer", TokenizerConfig, ConformerTokenizer),
    Kind("semantic", "frame_synchronous", StageConfig, SemanticStage),
    Kind("coarse", "delayed", StageConfig, CoarseStage),
    Kind("fine", "level_parallel", StageConfig, FineStage),
    Kind("detector", "windows", DetectorConfig, Detector),
)


@dataclass(frozen=True)
class BundleInfo:
    """What is worth knowing about a bundle before its weights are read.

    max_prompt_seconds: the end of the clip that conditions generation. temperatures: of the semantic, coarse and fine
    stage; of the coarse one maybe for each codebook. training: free JSON for people: data, licences, compute, the
    reports of each part's training.
    """

    name: str
    model_version: str
    max_prompt_seconds: float
    temperatures: Temperatures
    training: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class WeightFile:
    name: str
    bytes: int
    sha256: str


@dataclass(frozen=True)
class Part:
    kind: Kind
    config: Any
    files: tuple[WeightFile, ...]


@dataclass(frozen=True)
class Manifest:
    """`bundle.json`, checked."""

    info: BundleInfo
    parts: dict[str, Part]


@dataclass(frozen=True)
class Bundle:
    """A loaded bundle: parts by name, in eval mode and without gradients."""

    info: BundleInfo
    parts: dict[str, nn.Module]


def save_bundle(
    path: str | Path,
    parts: Mapping[str, nn.Module],
    info: BundleInfo,
    card: str,
    int8_parts: tuple[str, ...] = INT8_PARTS,
) -> None:
    """Write `parts` (module by name; OPTIONAL_PARTS may be left out) to the folder `path`, new or an older bundle.

    Raises BundleError when a part is missing or `path` holds something else.
    """
    path = Path(path)
    missing = [name for name in PARTS if name not in parts]
    if missing:
        raise BundleError(f"a bundle needs the part {missing[0]!r}", code="bundle_incomplete")
    if path.exists() and not (path / MANIFEST).exists() and any(path.iterdir()):
        raise BundleError(f"{path} exists and is no bundle: choose another folder", code="bundle_exists")
    part_path = path.with_name(f".{path.name}.{os.getpid()}.part")
    part_path.mkdir(parents=True)
    try:
        described = {}
        for name, module in parts.items():
            kind = next(k for k in KINDS if k.part == name and isinstance(module, k.build))
            tensors = pack(module.state_dict(), matrix_names(module) if name in int8_parts else set())
            files = [
                _write_file(part_path, f"{name}-{i}.safetensors", shard)
                for i, shard in enumerate(_shards(tensors), start=1)
            ]
            described[name] = {
                "kind": kind.name,
                "config": module.config.to_dict(),  # type: ignore[union-attr, operator]
                "files": [vars(file) for file in files],
            }
        codec, tokenizer = parts["codec"], parts["tokenizer"]
        manifest = {
            "format_version": FORMAT_VERSION,
            **vars(info),
            "sample_rate": SAMPLE_RATE,
            "frame_rates": {"semantic": tokenizer.frame_rate, "acoustic": codec.frame_rate},
            "parts": described,
        }
        (part_path / MANIFEST).write_text(json.dumps(manifest, indent=1) + "\n")
        (part_path / CARD).write_text(card)
        if path.exists():
            shutil.rmtree(path)
        os.replace(part_path, path)
    finally:
        shutil.rmtree(part_path, ignore_errors=True)


def load_bundle(
    path: str | Path, device: str | torch.device = "cpu", only: Collection[str] | None = None
) -> Bundle:
    """Check and load everything in the folder `path`, or `only` some of its parts. Raises BundleError naming what is
    wrong."""
    path = Path(path)
    manifest = read_manifest(path)
    parts = {}
    for name, part in manifest.parts.items():
        if only is not None and name not in only:
            continue
        stored: dict[str, Tensor] = {}
        for file in part.files:
            stored |= _read_file(path, file)
        module = part.kind.build(part.config)
        _fill(module, stored, f"{path}: part {name!r}")
        parts[name] = module.to(device).eval().requires_grad_(False)
    return Bundle(manifest.info, parts)


def read_manifest(path: str | Path) -> Manifest:
    """Read and check `bundle.json` without touching weights. Raises BundleError."""
    path = Path(path)
    for name in (MANIFEST, CARD):
        if not (path / name).is_file():
            code = "bundle_missing" if name == MANIFEST else "bundle_incomplete"
            raise BundleError(f"{path} holds no {name}", code=code)
    try:
        values = json.loads((path / MANIFEST).read_text())
        version = values.get("format_version")
        if version != FORMAT_VERSION:
            raise BundleError(f"{path}: format version {version!r}; this program reads {FORMAT_VERSION}")
        info_keys = tuple(BundleInfo.__dataclass_fields__)
        _exact(
            values,
            ("format_version", *info_keys, "sample_rate", "frame_rates", "parts"),
            f"{path / MANIFEST}",
        )
        if values["sample_rate"] != SAMPLE_RATE:
            raise BundleError(f"{path}: sample rate {values['sample_rate']}, not {SAMPLE_RATE}")
        present = [name for name in OPTIONAL_PARTS if name in values["parts"]]
        _exact(values["parts"], (*PARTS, *present), f"{path / MANIFEST}: parts")
        parts = {name: _parse_part(name, values["parts"][name], path) for name in (*PARTS, *present)}
        info = BundleInfo(
            **{key: values[key] for key in info_keys}
            | {"temperatures": to_temperatures(values["temperatures"])}
        )
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise BundleError(f"{path / MANIFEST} is malformed: {error}") from error
    return Manifest(info, parts)


def _parse_part(name: str, values: dict[str, Any], path: Path) -> Part:
    where = f"{path / MANIFEST}: {name}"
    _exact(values, ("kind", "config", "files"), where)
    kinds = {kind.name: kind for kind in KINDS if kind.part == name}
    if values["kind"] not in kinds:
        raise BundleError(f"{where}: kind {values['kind']!r} is none of {sorted(kinds)}")
    kind = kinds[values["kind"]]
    try:
        config = kind.config.from_dict(values["config"])
    except ConfigError as error:
        raise BundleError(f"{where}: {error}") from error
    files = []
    for entry in values["files"]:
        _exact(entry, ("name", "bytes", "sha256"), where)
        if Path(entry["name"]).name != entry["name"]:
            raise BundleError(f"{where}: {entry['name']!r} is not a file of this folder")
        files.append(WeightFile(**entry))
    return Part(kind, config, tuple(files))


def _exact(values: dict[str, Any], names: tuple[str, ...], where: str) -> None:
    unknown, missing = sorted(set(values) - set(names)), sorted(set(names) - set(values))
    if unknown or missing:
        raise BundleError(
            f"{where}: " + (f"unknown key {unknown[0]!r}" if unknown else f"{missing[0]!r} is missing")
        )


def _shards(tensors: Mapping[str, Tensor]) -> list[dict[str, Tensor]]:
    """Split by name order so that each shard stays below MAX_FILE_BYTES (a larger tensor gets its own)."""
    shards: list[dict[str, Tensor]] = [{}]
    size = 0
    for name, tensor in sorted(tensors.items()):
        if shards[-1] and size + tensor.nbytes > MAX_FILE_BYTES:
            shards.append({})
            size = 0
        shards[-1][name] = tensor
        size += tensor.nbytes
    return shards


def _write_file(folder: Path, name: str, tensors: dict[str, Tensor]) -> WeightFile:
    save_file(tensors, folder / name)
    (folder / name).chmod(0o644)  # safetensors leaves it to its owner, but another user may serve it
    data = (folder / name).read_bytes()
    return WeightFile(name, len(data), hashlib.sha256(data).hexdigest())


def _read_file(folder: Path, file: WeightFile) -> dict[str, Tensor]:
    path = folder / file.name
    if not path.is_file():
        raise BundleError(f"{path} is missing", code="bundle_incomplete")
    size = path.stat().st_size
    if size != file.bytes:
        raise BundleError(f"{path} has {size} bytes, not {file.bytes}", code="bundle_checksum")
    with open(path, "rb") as opened:
        digest = hashlib.file_digest(opened, "sha256").hexdigest()
    if digest != file.sha256:
        raise BundleError(
            f"{path} is changed: its sha256 is not the one in {MANIFEST}", code="bundle_checksum"
        )
    try:
        return load_file(path)
    except (SafetensorError, OSError) as error:
        raise BundleError(f"{path} is no safetensors file: {error}") from error


def _fill(module: nn.Module, stored: dict[str, Tensor], where: str) -> None:
    weights, wanted = unpack(stored), module.state_dict()
    unknown, missing = sorted(set(weights) - set(wanted)), sorted(set(wanted) - set(weights))
    if unknown or missing:
        problem = f"unknown tensor {unknown[0]!r}" if unknown else f"tensor {missing[0]!r} is missing"
        raise BundleError(f"{where}: {problem}", code="bundle_tensors")
    for name, tensor in weights.items():
        if tensor.shape != wanted[name].shape:
            shapes = f"{list(tensor.shape)}, not {list(wanted[name].shape)}"
            raise BundleError(f"{where}: tensor {name!r} has the shape {shapes}", code="bundle_tensors")
    module.load_state_dict(weights)
