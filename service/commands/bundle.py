"""`audiolm bundle`: look into a bundle, check it, make one from a training run or a run from it."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from service.commands import Subparsers, add_command

EXAMPLES = """\
  audiolm bundle inspect                          sizes, rates, training data and licences of the shipped bundle
  audiolm bundle verify bundles/mine              load every weight and check that the parts fit together
  audiolm bundle make runs/mine bundles/mine --data corpus/speech --card MODEL_CARD.md
  audiolm bundle unpack runs/mine                 the shipped bundle's parts as a run, to teach them your recordings:
  audiolm train coarse --data corpus/mine --from runs/mine --out runs/mine --minutes 30
"""


def register(subparsers: Subparsers) -> None:
    parser = add_command(subparsers, "bundle", "inspect, verify or make a bundle", EXAMPLES)
    actions = parser.add_subparsers(metavar="ACTION", required=True)

    inspect = actions.add_parser("inspect", help="print what a bundle holds, without loading its weights")
    inspect.add_argument("bundle", type=Path, nargs="?", metavar="DIR", help="default: the bundle that ships")
    inspect.set_defaults(run=run_inspect)

    verify = actions.add_parser(
        "verify", help="check every file, checksum and tensor, and that the parts fit"
    )
    verify.add_argument("bundle", type=Path, nargs="?", metavar="DIR", help="default: the bundle that ships")
    verify.set_defaults(run=run_verify)

    make = actions.add_parser("make", help="pack the parts of a training run")
    make.add_argument("run_dir", type=Path, metavar="RUN_DIR", help="the --out of 'audiolm train'")
    make.add_argument("output", type=Path, metavar="OUT", help="folder to write: new, or an older bundle")
    make.add_argument("--name", help="default: the name of OUT")
    make.add_argument("--model-version", default="1", help="stands in every answer made with it (default: 1)")
    make.add_argument("--preset", default="starter", help="whose prompt length and temperatures to take")
    make.add_argument(
        "--temperatures",
        type=temperature,
        nargs=3,
        metavar=("SEMANTIC", "COARSE", "FINE"),
        help="default: the preset's; four numbers with commas between them give each coarse codebook its own",
    )
    make.add_argument(
        "--card", type=Path, metavar="FILE", help="model card in Markdown; default: the one in OUT"
    )
    make.add_argument(
        "--data",
        type=Path,
        action="append",
        default=[],
        metavar="DIR",
        help="a corpus to account for; repeatable",
    )
    make.add_argument(
        "--int8",
        nargs="*",
        metavar="PART",
        help="parts whose matrices are stored in 8 bits (default: semantic coarse fine); the rest in 16",
    )
    make.set_defaults(run=run_make)

    unpack = actions.add_parser("unpack", help="make a training run of a bundle's parts, to go on from")
    unpack.add_argument("run_dir", type=Path, metavar="RUN_DIR", help="folder to write the parts to")
    unpack.add_argument("bundle", type=Path, nargs="?", metavar="DIR", help="default: the bundle that ships")
    unpack.set_defaults(run=run_unpack)


def temperature(value: str) -> float | tuple[float, ...]:
    """From "0.7", or from "0.9,0.7,0.6,0.6": one number for each codebook."""
    numbers = tuple(float(number) for number in value.split(","))
    return numbers if len(numbers) > 1 else numbers[0]


def run_inspect(args: argparse.Namespace) -> int:
    from model.bundle import SHIPPED, read_manifest

    path = args.bundle or SHIPPED
    manifest = read_manifest(path)
    info = manifest.info
    temperatures = ", ".join(str(each) for each in info.temperatures)
    print(f"{info.name} {info.model_version}  ({path})")
    print(f"prompt: the last {info.max_prompt_seconds:g} s; temperatures: {temperatures}")
    for name, part in manifest.parts.items():
        size = sum(file.bytes for file in part.files)
        print(f"\n{name}: {part.kind.name}, {size / 2**20:.1f} MiB in {len(part.files)} file(s)")
        print("  " + ", ".join(f"{key} {value}" for key, value in part.config.to_dict().items()))
    print("\n" + "\n".join(describe_training(info.training)))
    return 0


def describe_training(training: Mapping[str, Any]) -> Iterator[str]:
    """Lines: hours per kind of sound and licence, and each part's training. Every source is in bundle.json."""
    hours: dict[tuple[str, str], float] = {}
    data = training.get("data")
    for row in data if isinstance(data, list) else ():
        key = row["kind"], row["licence"]
        hours[key] = hours.get(key, 0.0) + row["hours"]
    yield "trained on (every source is in bundle.json):" if hours else f"trained on: {data or 'not said'}"
    for (kind, licence), total in sorted(hours.items(), key=lambda item: -item[1]):
        yield f"  {total:6.2f} h  {kind:7} {licence}"
    for part, report in training.get("reports", {}).items():
        failed = [check["name"] for check in report["checks"] if not check["passed"]]
        verdict = f"FAILED: {', '.join(failed)}" if failed else "checks passed"
        yield f"  {part}: {report['steps']} steps, {report['seconds'] / 60:.0f} min, {verdict}"


def run_verify(args: argparse.Namespace) -> int:
    from model.audiolm import AudioLM
    from model.bundle import SHIPPED

    path = args.bundle or SHIPPED
    info = AudioLM.load(path).info
    print(f"{path}: {info.name} {info.model_version} is complete, unchanged, and its parts fit")
    return 0


def run_make(args: argparse.Namespace) -> int:
    from model.bundle import INT8_PARTS
    from model.training.packing import pack_run

    pack_run(
        args.run_dir,
        args.output,
        name=args.name or args.output.name,
        model_version=args.model_version,
        preset=args.preset,
        data=tuple(args.data),
        temperatures=None if args.temperatures is None else tuple(args.temperatures),
        card=args.card,
        int8_parts=INT8_PARTS if args.int8 is None else tuple(args.int8),
    )
    size = sum(file.stat().st_size for file in args.output.iterdir())
    print(f"{args.output}: {size / 2**20:.1f} MiB")
    return 0


def run_unpack(args: argparse.Namespace) -> int:
    from model.bundle import SHIPPED
    from model.training.packing import unpack_bundle

    unpack_bundle(args.bundle or SHIPPED, args.run_dir)
    print(f"{args.run_dir}: go on with 'audiolm train PART --from {args.run_dir} --out {args.run_dir} ...'")
    return 0
