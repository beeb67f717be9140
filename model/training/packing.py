"""From a training run to a bundle and back: the weights each part exported, its reports, and what it was trained on.

A run's parts are RUN_DIR/<part>/config.json, model.safetensors and, if the part's training reached its end,
report.json.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from safetensors.torch import save_file

from model.bundle import CARD, INT8_PARTS, OPTIONAL_PARTS, PARTS, BundleInfo, load_bundle, save_bundle
from model.config import PRESETS, Temperature, to_temperatures
from model.errors import BundleError, ConfigError, TrainingError
from model.training.data import read_manifest
from model.training.frozen import load_part, save_operating_points


def pack_run(
    run_dir: Path,
    output: Path,
    *,
    name: str,
    model_version: str,
    preset: str,
    temperatures: Sequence[Temperature] | None = None,
    card: Path | None = None,
    data: Sequence[Path] = (),
    int8_parts: tuple[str, ...] = INT8_PARTS,
) -> None:
    """Write the bundle `output` from the five parts in `run_dir`, and from its detector if it has one.

    `temperatures` and the prompt length come from `preset` if not given; `card` from an older bundle at `output`.
    Raises TrainingError for a part that is not there, ConfigError for an unknown name, BundleError.
    """
    if preset not in PRESETS:
        raise ConfigError(f"unknown preset {preset!r}: one of {', '.join(PRESETS)}")
    unknown = sorted(set(int8_parts) - {*PARTS, *OPTIONAL_PARTS})
    if unknown:
        raise ConfigError(f"unknown part {unknown[0]!r}: one of {', '.join(PARTS)}")
    card = card or output / CARD
    if not card.is_file():
        raise BundleError(f"{card} does not exist: a bundle needs a model card", code="bundle_incomplete")
    parts = (*PARTS, *(part for part in OPTIONAL_PARTS if (run_dir / part).is_dir()))
    save_bundle(
        output,
        {part: load_part(run_dir, part) for part in parts},
        BundleInfo(
            name=name,
            model_version=model_version,
            max_prompt_seconds=PRESETS[preset].max_prompt_seconds,
            temperatures=to_temperatures(temperatures or PRESETS[preset].temperatures),
            training={
                "data": [row for corpus in data for row in account(corpus)],
                "reports": {part: _report(run_dir / part) for part in parts},
            },
        ),
        card.read_text(),
        int8_parts,
    )


def unpack_bundle(path: Path, run_dir: Path) -> None:
    """Write the parts of the bundle at `path` to `run_dir`, as their training would have left them, to train on from.

    Weights that the bundle keeps in 8 or 16 bits stay as coarse as they are there, so the codec and the tokenizer make
    the tokens that the bundle's do. Raises BundleError, and TrainingError where `run_dir` has a part already.
    """
    bundle = load_bundle(path)
    taken = [part for part in bundle.parts if (run_dir / part).exists()]
    if taken:
        raise TrainingError(f"{run_dir / taken[0]} exists: choose another folder")
    reports = bundle.info.training.get("reports", {})
    for part, module in bundle.parts.items():
        folder = run_dir / part
        folder.mkdir(parents=True)
        config = module.config.to_dict()  # type: ignore[union-attr, operator]
        points = config.pop("operating_points", None)
        (folder / "config.json").write_text(json.dumps(config, indent=1) + "\n")
        save_file(module.state_dict(), folder / "model.safetensors")
        if points is not None:
            save_operating_points(run_dir, module.config.operating_points)  # type: ignore[union-attr, arg-type]
        if reports.get(part):
            (folder / "report.json").write_text(json.dumps(reports[part], indent=1) + "\n")


def _report(folder: Path) -> dict[str, Any] | None:
    path = folder / "report.json"
    return json.loads(path.read_text()) if path.is_file() else None


def account(corpus: Path) -> list[dict[str, Any]]:
    """Hours of the training split of one corpus, by kind, licence and source, instruments counted on their own.

    A piece of a collection ("owner/name piece") is named where its licence asks for that (CC BY), otherwise the
    collection alone.
    """
    seconds: dict[tuple[str, str, str], float] = defaultdict(float)
    for row in read_manifest(corpus):
        if row["split"] != "train":
            continue
        licence, _, instrument_licence = row["licence"].partition("; instrument ")
        source, _, details = row["source"].partition("; ")
        collection = source.split(" ")[0]
        if "/" in collection and "BY" not in licence:
            source = collection
        seconds[row["kind"], licence, source] += float(row["seconds"])
        if instrument_licence:
            seconds["instrument", instrument_licence, details.split("; ")[0]] += float(row["seconds"])
    return [
        {
            "corpus": corpus.name,
            "kind": kind,
            "licence": licence,
            "source": source,
            "hours": round(total / 3600, 3),
        }
        for (kind, licence, source), total in sorted(seconds.items())
    ]
