"""The `audiolm` command: finds the subcommand, and turns every expected failure into one line.

A subcommand is a module in `service/commands/` with `register(subparsers)`, which adds its parser and sets `run` as a
default, and `run(args) -> int`. Adding one means adding its name to `COMMANDS`. A command that parses its own
arguments sets `takes_rest=True` and finds what follows its name in `args.rest`.
Nothing here imports torch, so `audiolm --help` answers at once; each command imports what it needs in `run`.
"""

from __future__ import annotations

import argparse
import importlib
import os
import sys
from collections.abc import Sequence
from importlib.metadata import version

from model.errors import AudioLMError

COMMANDS = ("continuation", "detection", "serve", "load", "capacity", "bundle", "train", "corpus", "evaluate")

DESCRIPTION = (
    "Continue a clip of speech or piano, tell which clips were made here, and train, measure and serve the models that "
    "do it."
)

EXAMPLES = """\
examples:
  audiolm continue clip.wav -o longer.wav --seconds 5      hear a clip go on, with the bundle that ships
  audiolm continue clip.mp3 -o take.flac --num-continuations 3 --seed 7
  audiolm detect clip.wav                                  was it made here, and which seconds of it?
  audiolm bundle inspect                                   what the shipped bundle holds and where it came from
  audiolm train all --preset starter --data corpus --out runs/mine --minutes 120

'audiolm COMMAND --help' explains one command, with examples.
"""


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="audiolm",
        description=DESCRIPTION,
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"audiolm {version('audiolm-service')}")
    parser.set_defaults(takes_rest=False)
    subparsers = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for name in COMMANDS:
        importlib.import_module(f"service.commands.{name}").register(subparsers)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command. Returns its exit status: 0 done, 1 a check failed, 2 bad input, 130 interrupted,
    141 nobody reads what it prints any more."""
    parser = build_parser()
    args = _parse(parser, argv)
    try:
        status: int = args.run(args)
        sys.stdout.flush()
    except AudioLMError as error:
        print(f"audiolm: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("audiolm: interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:  # `audiolm bundle inspect | head`: who read has read enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # what is left is flushed at exit
        return 141
    return status


def _parse(parser: argparse.ArgumentParser, argv: Sequence[str] | None) -> argparse.Namespace:
    args, rest = parser.parse_known_args(argv)
    if rest and not args.takes_rest:
        parser.error(f"unrecognized arguments: {' '.join(rest)}")
    args.rest = rest
    return args


if __name__ == "__main__":
    sys.exit(main())
