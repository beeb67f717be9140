"""What every evaluation is of, a bundle and recordings, as arguments of its command; and the files it leaves.

Nothing heavy is imported before an argument is known to be right.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import TYPE_CHECKING

from model.errors import ConfigError

if TYPE_CHECKING:
    from model.audiolm import AudioLM
    from model.evaluation.clips import Recording


def parser_with_inputs(prog: str, description: str, examples: str) -> argparse.ArgumentParser:
    """A parser that knows --bundle, --data and --device."""
    parser = argparse.ArgumentParser(
        prog=prog,
        description=description,
        epilog=examples,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--bundle", type=Path, metavar="DIR", help="default: the bundle that ships")
    data = "corpus with a manifest.csv; repeatable"
    add("--data", type=Path, action="append", required=True, metavar="DIR", help=data)
    add("--device", default="cpu", help="cpu (default), cuda, cuda:1 ...")
    return parser


def load_inputs(args: argparse.Namespace) -> tuple[AudioLM, list[Recording]]:
    """What those arguments name. Raises AudioLMError for a bundle or corpus that cannot be used."""
    from model.audiolm import AudioLM
    from model.evaluation.clips import read_recordings

    recordings = [recording for folder in args.data for recording in read_recordings(folder)]
    return AudioLM.load(args.bundle, device=args.device), recordings


def write(path: Path, text: str) -> None:
    """Write a file that appears complete or not at all. Raises ConfigError when it cannot be written."""
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        part.write_text(text, encoding="utf-8")
        os.replace(part, path)
    except OSError as error:
        raise ConfigError(f"{path} cannot be written: {error.strerror}") from error
