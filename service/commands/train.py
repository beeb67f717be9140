"""`audiolm train`: train one part, or all of them in order, within a budget of minutes."""

from __future__ import annotations

import argparse
import importlib
import math
import os
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from service.commands import Subparsers, add_command

if TYPE_CHECKING:
    from model.training.loop import TrainingOptions
    from model.training.report import Report

# Share of the budget of `train all`, in the order in which parts need each other's tokens.
SHARES = {"codec": 0.3, "tokenizer": 0.15, "semantic": 0.15, "coarse": 0.2, "fine": 0.1, "detector": 0.1}
# Frozen parts whose tokens of every recording a part learns from.
LEARNS_FROM = {
    "semantic": ("tokenizer",),
    "coarse": ("tokenizer", "codec"),
    "fine": ("tokenizer", "codec"),
}
STARTS_FROM_WEIGHTS = ("tokenizer", "semantic", "coarse", "fine", "detector")

EXAMPLES = """\
  audiolm train all --preset starter --data corpus/speech --data corpus/piano --out runs/mine --minutes 240
  audiolm train semantic --preset starter --data corpus/speech --out runs/mine --minutes 60 --resume
  audiolm train coarse --data corpus/mine --from runs/first --out runs/second --minutes 30     to go on from weights
  audiolm train coarse --data corpus/mine=3 --data corpus/speech --out runs/mine --minutes 60  hear mine more often
  torchrun --nproc-per-node 8 -m service.cli train coarse --preset base --data corpus --out runs/base --minutes 600
  audiolm bundle make runs/mine bundles/mine                 then: audiolm continue clip.wav -o out.wav --bundle ...

A run can be interrupted at any time and continued with --resume. Every part ends with a pass/fail table; the exit
status is 1 when a check failed. 'all' gives every part in that order a share of the minutes;
'tokens' only makes what the stages learn from, which they otherwise do themselves (torchrun needs it beforehand).
"""


def register(subparsers: Subparsers) -> None:
    parser = add_command(subparsers, "train", "train one part of the model, or all of them", EXAMPLES)
    parser.add_argument("part", choices=[*SHARES, "tokens", "all"], help="what to train")
    parser.add_argument("--preset", default="starter", help="sizes of all parts: tiny, starter or base")
    parser.add_argument(
        "--data",
        type=corpus,
        action="append",
        required=True,
        metavar="DIR[=TIMES]",
        help="a corpus; repeatable. A corpus counts by the root of its hours; with =3, codec and stages draw from"
        " it three times as often",
    )
    parser.add_argument(
        "--out", type=Path, required=True, metavar="RUN_DIR", help="where weights and logs go"
    )
    parser.add_argument("--minutes", type=float, required=True, help="wall-clock budget, resumed or not")
    parser.add_argument("--resume", action="store_true", help="go on from the last checkpoint in RUN_DIR")
    parser.add_argument(
        "--from",  # not --start: torchrun takes that for one of its own
        dest="start",
        type=Path,
        metavar="RUN_DIR",
        help="begin the tokenizer's network, a stage or the detector with the weights of another run of this preset; a"
        " stage whose tokens are others now is translated",
    )
    parser.add_argument(
        "--rate",
        type=factor,
        default=1.0,
        metavar="FACTOR",
        help="of the usual learning rate: with --from, 0.25 keeps more of what the weights know, 1 learns more anew",
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", help="default: CUDA if there is one, else the CPU")
    parser.add_argument(
        "--compile", action="store_true", help="compile the model first (minutes; pays on CUDA)"
    )
    parser.add_argument(
        "--tensorboard", action="store_true", help="losses, samples and spectrograms to RUN_DIR"
    )
    parser.set_defaults(run=run)


def corpus(value: str) -> tuple[Path, float]:
    """From "DIR" or "DIR=TIMES": a corpus, and how many times as often as others it is drawn from."""
    folder, _, times = value.rpartition("=")
    if not folder or Path(value).is_dir():
        return Path(value), 1.0
    try:
        return Path(folder), factor(times)
    except argparse.ArgumentTypeError:
        raise argparse.ArgumentTypeError(f"{value!r}: what follows = must be a number above 0") from None


def factor(value: str) -> float:
    """A number above 0."""
    try:
        number = float(value)
    except ValueError:
        number = math.nan
    if not 0 < number < math.inf:
        raise argparse.ArgumentTypeError(f"{value!r} is not a number above 0")
    return number


def run(args: argparse.Namespace) -> int:
    from model.errors import ConfigError
    from model.training.loop import TrainingOptions

    if args.start is not None and args.part not in STARTS_FROM_WEIGHTS:
        raise ConfigError(
            f"--from is for {', '.join(STARTS_FROM_WEIGHTS)}; {args.part} decides anew what codes mean"
        )
    options = TrainingOptions(
        preset=args.preset,
        data=tuple(folder for folder, _ in args.data),
        often={folder.name: times for folder, times in args.data},
        out=args.out,
        minutes=args.minutes,
        resume=args.resume,
        rate=args.rate,
        start=args.start,
        seed=args.seed,
        device=args.device,
        compile=args.compile,
        tensorboard=args.tensorboard,
    )
    if args.part == "tokens":
        encode(options, ("tokenizer", "codec"))
        return 0
    if args.part != "all":
        return 0 if train(args.part, options) else 1
    passed = [
        train(part, replace(options, minutes=share * options.minutes)) for part, share in SHARES.items()
    ]
    return 0 if all(passed) else 1


def train(part: str, options: TrainingOptions) -> bool:
    """Train `part` after making the tokens it learns from; whether its checks passed."""
    if "RANK" not in os.environ:  # processes of torchrun would write over each other's
        encode(options, LEARNS_FROM.get(part, ()))
    report: Report = importlib.import_module(f"model.training.train_{part}").train(options)
    return report.passed


def encode(options: TrainingOptions, parts: tuple[str, ...]) -> None:
    from model.training.frozen import encode_corpora

    for part in parts:
        encode_corpora(options, part)
