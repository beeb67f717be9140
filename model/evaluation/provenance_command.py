"""`audiolm evaluate provenance`: its arguments, and what it prints and writes."""

from __future__ import annotations

import argparse
import json
import platform
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from model.errors import ConfigError
from model.evaluation.inputs import load_inputs, parser_with_inputs, write

EXAMPLES = """\
examples:
  audiolm evaluate provenance --data corpus/real --data corpus/piano                 the whole battery, some minutes
  audiolm evaluate provenance --data corpus/real --negatives 3000 --out report.json  and an honest false-positive rate
  audiolm evaluate provenance --data corpus/real --attacks mp3_64k,opus_24k --durations 3 --clips 40

Recordings of the split "test" give prompts and negatives; those of "valid" are mixed in by attacks. --negatives are
taken from all splits: nothing of the watermark was learnt. The tables come as Markdown.
Needs the packages of the extra "evaluate"; AAC needs ffmpeg. Several runs may go on side by side.
"""


def build_parser() -> argparse.ArgumentParser:
    parser = parser_with_inputs(
        "audiolm evaluate provenance",
        "Measure how well this system knows its own sound after something happened to it.",
        EXAMPLES,
    )
    parser.add_argument(
        "--clips",
        type=int,
        default=8,
        metavar="N",
        help="generations, and recordings, per attack (default: 8)",
    )
    parser.add_argument(
        "--durations", default="1,2,3,5,10", metavar="SECONDS", help="of clips (default: 1,2,3,5,10)"
    )
    parser.add_argument(
        "--attacks", metavar="NAME[,NAME]", help="default: all; 'none' for the clean clips alone"
    )
    parser.add_argument(
        "--negatives",
        type=int,
        default=300,
        metavar="N",
        help="recordings of 5 s for the watermark (default: 300)",
    )
    parser.add_argument(
        "--generated", type=Path, metavar="FILE", help="keep generated sound here, and use it again"
    )
    parser.add_argument(
        "--seed", type=int, default=0, help="which clips, and every random choice (default: 0)"
    )
    parser.add_argument("--out", type=Path, metavar="FILE", help="every number, as JSON")
    return parser


def main(argv: Sequence[str]) -> int:
    """Run the command. Raises AudioLMError for a bundle, corpus or argument that cannot be used."""
    args = build_parser().parse_args(argv)
    if args.clips < 1 or args.negatives < 0:
        raise ConfigError(f"--clips is {args.clips} and --negatives {args.negatives}; at least 1 and 0")
    durations = _durations(args.durations)

    from tqdm import tqdm

    from model.evaluation.provenance_tables import provenance_tables

    started = time.perf_counter()
    with tqdm(desc="provenance", unit=" steps", file=sys.stderr, dynamic_ncols=True) as bar:

        def tick(step: str) -> None:
            bar.set_postfix_str(step, refresh=False)
            bar.update()

        results = measure(args, durations, tick)
    results["run"] = {
        "command": "audiolm evaluate provenance " + " ".join(argv),
        "machine": f"{platform.machine()}, {platform.system()}",
        "seconds": round(time.perf_counter() - started, 1),
        "seed": args.seed,
    }
    for table in provenance_tables(results):
        print(table.markdown())
    if args.out is not None:
        write(args.out, json.dumps(results, indent=1) + "\n")
    return 0


def _durations(text: str) -> list[float]:
    try:
        durations = [float(part) for part in text.split(",")]
    except ValueError:
        raise ConfigError(f"--durations is {text!r}; seconds with commas between them are needed") from None
    if not all(0.5 <= seconds <= 60 for seconds in durations):
        raise ConfigError(f"--durations is {text!r}; from 0.5 to 60 s can be measured")
    return durations


def measure(args: argparse.Namespace, durations: Sequence[float], tick: Any) -> dict[str, Any]:
    """Everything the tables show."""
    from model.distortions.registry import Material, distortions
    from model.evaluation import provenance
    from model.evaluation.marking import imperceptibility
    from model.evaluation.provenance_material import gather, pieces
    from model.watermark import WatermarkKey

    model, recordings = load_inputs(args)
    longest = max(5.0, *durations)
    sounds = gather(
        model, recordings, clips=args.clips, seconds=longest, seed=args.seed, kept=args.generated, tick=tick
    )
    attacks = distortions(Material(model.codec, sounds.speech, sounds.music))
    if args.attacks:
        names = [] if args.attacks == "none" else args.attacks.split(",")
        unknown = [name for name in names if name not in attacks]
        if unknown:
            raise ConfigError(f"--attacks names {unknown[0]!r}, which is none of {', '.join(attacks)}")
        attacks = {name: attacks[name] for name in names}
    judges = provenance.Judges(WatermarkKey(np.random.default_rng([args.seed, 1]).bytes(32)), model.detector)
    negatives = pieces(recordings, args.negatives, provenance.BATTERY_SECONDS, args.seed)
    return {
        "bundle": {"name": model.info.name, "version": model.info.model_version},
        "battery": provenance.battery(sounds, attacks, judges, durations, args.seed, tick),
        "false_positives": provenance.false_positives(negatives, judges, tick),
        "keys": provenance.keys(sounds, judges, provenance.BATTERY_SECONDS, args.seed),
        "imperceptibility": imperceptibility(sounds.made, judges.key),
        "segments": provenance.segments(sounds, attacks, judges, args.seed, tick),
    }
