"""`audiolm evaluate`: its arguments, and what it prints and writes."""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from model.errors import ConfigError
from model.evaluation.inputs import load_inputs, parser_with_inputs, write

EXAMPLES = """\
examples:
  audiolm evaluate --data corpus/speech --data corpus/piano                 the bundle that ships, all sections
  audiolm evaluate --bundle runs/mine/bundle --data corpus --only codec     how a codec compares with Opus
  audiolm evaluate --data corpus --html report.html --json report.json      with players and pictures
  audiolm evaluate --data corpus --sentences sentences.txt --only words     does it know words?
  audiolm evaluate provenance --help                                        watermark and classifier under attack

Recordings of the split "test" are judged; those of "train" only fit baselines. The tables come as Markdown.
Needs the packages of the extra "evaluate"; opus-tools, espeak-ng, flite and fluidsynth where they are installed.
"""


def build_parser() -> argparse.ArgumentParser:
    parser = parser_with_inputs("audiolm evaluate", "Measure a bundle on held-out recordings.", EXAMPLES)
    parser.add_argument(
        "--only", metavar="SECTION[,SECTION]", help="codec, tokens, lm, words, continuation (default: all)"
    )
    parser.add_argument(
        "--sentences", type=Path, metavar="FILE", help="text, one sentence per line, for spotting real words"
    )
    parser.add_argument(
        "--clips", type=int, default=24, metavar="N", help="prompts of each kind (default: 24)"
    )
    parser.add_argument(
        "--takes",
        type=int,
        default=1,
        metavar="N",
        help="continuations of each prompt; intervals stay those over prompts (default: 1)",
    )
    parser.add_argument("--seed", type=int, default=0, help="which clips, and what is sampled (default: 0)")
    parser.add_argument("--html", type=Path, metavar="FILE", help="a report with players and spectrograms")
    parser.add_argument("--json", type=Path, metavar="FILE", help="every number")
    parser.add_argument(
        "--examples", type=int, default=6, metavar="N", help="players of each kind in the report (default: 6)"
    )
    return parser


def main(argv: Sequence[str]) -> int:
    """Run the command. Raises AudioLMError for a bundle, corpus or argument that cannot be used."""
    if argv and argv[0] == "provenance":
        from model.evaluation import provenance_command

        return provenance_command.main(argv[1:])
    args = build_parser().parse_args(argv)
    for name in ("clips", "takes"):
        if getattr(args, name) < 1:
            raise ConfigError(f"--{name} is {getattr(args, name)}; it must be at least 1")

    from model.evaluation.report import Example, render_report
    from model.evaluation.suite import SECTIONS, Plan, Subject, evaluate
    from model.evaluation.summary import tables
    from model.training.corpus.sentences import read_passages

    only = args.only.split(",") if args.only else list(SECTIONS)
    unknown = [name for name in only if name not in SECTIONS]
    if unknown:
        raise ConfigError(f"--only names {unknown[0]!r}, which is none of {', '.join(SECTIONS)}")
    started = time.perf_counter()
    audiolm, recordings = load_inputs(args)

    def report(step: str) -> None:
        print(f"[{time.perf_counter() - started:4.0f} s] {step}", file=sys.stderr)

    passages = read_passages(args.sentences) if args.sentences else {}
    sentences = tuple(line for split in passages.values() for passage in split for line in passage)
    plan = Plan(clips=args.clips, takes=args.takes, seed=args.seed, sentences=sentences)
    subject = Subject(audiolm, recordings, plan, report)
    results = evaluate(subject, only)
    facts = run_facts(argv, audiolm, time.perf_counter() - started)
    found = tables(results)
    for table in found:
        print(table.markdown())
    print("\n".join(facts))
    if args.json:
        write(args.json, json.dumps({"facts": facts, **results}, indent=1) + "\n")
    if args.html:
        examples = [
            Example(f"{kind}: {item.recording.path.stem}", item.prompt, item.continuation, item.truth)
            for kind, made in subject.made.items()
            for item in made[: args.examples]
        ]
        write(args.html, render_report(f"{audiolm.info.name}: evaluation", facts, found, examples))
    return 0


def run_facts(argv: Sequence[str], audiolm: Any, seconds: float) -> list[str]:
    """Where the numbers come from: command, bundle, machine, time."""
    info = audiolm.info
    return [
        f"Command: audiolm evaluate {' '.join(map(str, argv))}",
        f"Bundle: {info.name} {info.model_version}",
        f"Machine: {processor()}, {os.cpu_count()} cores; Python {platform.python_version()}",
        f"Took {seconds:.0f} s.",
    ]


def processor() -> str:
    """The processor's name, as far as the system tells."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()
