"""`audiolm corpus piano` and `audiolm corpus speech`: arguments, and from there to tasks."""

from __future__ import annotations

import argparse
import os
import shutil
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from model.errors import ConfigError, TrainingError
from model.training.corpus.manifest import SPLITS
from model.training.corpus.recordings import at_speeds, find_recordings
from model.training.corpus.rendering import Outcome, Task, render
from model.training.corpus.sentences import read_passages, write_train_text
from model.training.corpus.speech import plan_speech
from model.training.corpus.waveform import FORMATS

SOUNDFONTS = Path("/usr/share/sounds/sf2")  # where Debian puts them

EXAMPLES = """\
examples:
  audiolm corpus speech --recordings data --out corpus/speech                 real recordings alone, cut into clips
  audiolm corpus speech --recordings data --sentences sentences.txt --hours 5 --out corpus/speech --workers 8
  audiolm corpus piano --scores data/midi --hours 20 --samples "upright=CC0 1.0" --out corpus/piano --workers 8
  audiolm corpus piano --hours 1 --out corpus/exercises                       generated exercises alone

A folder of recordings or scores may hold (or lie beside) a manifest.csv with path, speaker, split and licence;
without one, each sub-folder is a speaker and each score a piece, and whole speakers and pieces are held out.
The same seed makes the same audio with any number of workers. An interrupted run goes on when started again;
more --hours extend what is there.
"""


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="audiolm corpus",
        description="Make training audio: 16 kHz mono clips of at most 30 s and a manifest.csv.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    kinds = parser.add_subparsers(title="kinds", metavar="KIND", required=True)

    piano = kinds.add_parser("piano", help="performances of scores and exercises, by fluidsynth and samples")
    piano.add_argument(
        "--scores", type=Path, action="append", default=[], metavar="DIR", help="MIDI files; repeatable"
    )
    piano.add_argument(
        "--soundfont",
        action="append",
        metavar="FILE[=LICENCE]",
        help=f"repeatable; default: those in {SOUNDFONTS}",
    )
    piano.add_argument(
        "--no-soundfont", action="store_const", const=[], dest="soundfont", help="samples only, no fluidsynth"
    )
    piano.add_argument(
        "--samples",
        action="append",
        default=[],
        metavar="DIR[=LICENCE]",
        help="a piano as recorded notes (C4.flac, D#4vL.ogg ...); repeatable",
    )
    piano.add_argument("--hours", type=float, default=6.0, help="for training, about (default %(default)s)")
    piano.add_argument(
        "--exercises",
        type=float,
        default=0.15,
        metavar="SHARE",
        help="of training clips (default %(default)s)",
    )
    piano.set_defaults(plan=_plan_piano)

    speech = kinds.add_parser("speech", help="real recordings, and sentences spoken by espeak-ng and flite")
    speech.add_argument(
        "--recordings",
        type=Path,
        action="append",
        default=[],
        metavar="DIR",
        help="real recordings; repeatable",
    )
    speech.add_argument(
        "--speed",
        type=float,
        action="append",
        default=[],
        metavar="FACTOR",
        help="training recordings once more at this speed, as other speakers' voices; repeatable: 0.9, 1.1",
    )
    speech.add_argument(
        "--sentences", type=Path, metavar="FILE", help="text to be spoken, a sentence per line"
    )
    speech.add_argument(
        "--hours", type=float, default=5.0, help="spoken for training, about (default %(default)s)"
    )
    speech.add_argument("--voices", type=int, default=60, help="in the training split (default %(default)s)")
    speech.set_defaults(plan=_plan_speech)

    for kind in (piano, speech):
        kind.add_argument("--out", type=Path, required=True, metavar="DIR", help="the corpus folder")
        kind.add_argument(
            "--held-out-hours",
            type=float,
            default=0.4,
            metavar="HOURS",
            help="rendered for each of valid and test, about (default %(default)s)",
        )
        kind.add_argument("--seed", type=int, default=1)
        kind.add_argument(
            "--workers", type=int, default=os.cpu_count() or 1, help="processes (default: all cores)"
        )
        kind.add_argument(
            "--format", choices=tuple(FORMATS), default="flac", help="ogg is lossy and a third the size"
        )
        kind.add_argument("--quiet", action="store_true", help="no progress bar")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Make a corpus. Returns 0; raises AudioLMError for input that cannot be used."""
    args = build_parser().parse_args(argv)
    for name in ("hours", "held_out_hours"):
        if not 0.0 <= getattr(args, name) < 10_000.0:
            raise ConfigError(f"--{name.replace('_', '-')} must be 0 to 10000, not {getattr(args, name)}")
    tasks: list[Task] = args.plan(args)
    outcomes = render(
        tasks, args.out, seed=args.seed, suffix=args.format, workers=args.workers, progress=not args.quiet
    )
    print(summary(outcomes, args.out))
    return 0


def summary(outcomes: Sequence[Outcome], folder: Path) -> str:
    """What a run made. Raises TrainingError if that is nothing."""
    rows = [row for outcome in outcomes for row in outcome.rows]
    skipped = [outcome for outcome in outcomes if outcome.skipped]
    if not rows:
        raise TrainingError(
            f"nothing was made: {skipped[0].skipped if skipped else 'no hours were asked for'}"
        )
    clips = Counter(row.split for row in rows)
    lines = []
    for split in SPLITS:
        hours = sum(row.seconds for row in rows if row.split == split) / 3600.0
        speakers = len({row.speaker for row in rows if row.split == split})
        lines.append(f"{split}: {hours:.2f} h in {clips[split]} clips, {speakers} speakers or pieces")
    if skipped:
        lines.append(f"skipped {len(skipped)}, first: {skipped[0].name}: {skipped[0].skipped}")
    return "\n".join([*lines, f"{folder / 'manifest.csv'}"])


def _hours(args: argparse.Namespace) -> dict[str, float]:
    return {"train": args.hours, "valid": args.held_out_hours, "test": args.held_out_hours}


def _require_program(name: str) -> None:
    if shutil.which(name) is None:
        raise TrainingError(
            f"{name} is not installed (the Debian package has the same name)", code="no_program"
        )


def _plan_piano(args: argparse.Namespace) -> list[Task]:
    try:  # MIDI comes with the extra [train]; speech does without it
        from model.training.corpus.instruments import find_instruments
        from model.training.corpus.piano import find_pieces, plan_piano
    except ModuleNotFoundError as error:
        message = f"{error.name} is not installed: pip install 'audiolm-service[train]'"
        raise TrainingError(message, code="no_package") from error
    soundfonts = args.soundfont
    if soundfonts is None:
        files = sorted(file for file in SOUNDFONTS.glob("*.sf2") if not file.is_symlink())
        soundfonts = [str(file) for file in files]
    instruments = find_instruments(
        [_with_licence(s) for s in soundfonts], [_with_licence(s) for s in args.samples]
    )
    if not instruments:
        raise TrainingError("no instrument: give --soundfont or --samples", code="no_instrument")
    if soundfonts:
        _require_program("fluidsynth")
    pieces = [piece for folder in args.scores for piece in find_pieces(folder)]
    hours = _hours(args) if pieces else {"train": args.hours}
    return [*plan_piano(pieces, instruments, hours, seed=args.seed, exercise_share=args.exercises)]


def _plan_speech(args: argparse.Namespace) -> list[Task]:
    for speed in args.speed:
        if not 0.5 <= speed <= 2.0 or speed == 1.0:
            raise ConfigError(f"--speed must be 0.5 to 2 and not 1, which is there already, not {speed:g}")
    tasks: list[Task] = []
    for folder in args.recordings:
        tasks += at_speeds(find_recordings(folder, "speech"), args.speed)
    if args.sentences is not None:
        _require_program("espeak-ng")
        _require_program("flite")
        passages = read_passages(args.sentences)
        tasks += plan_speech(passages, _hours(args), num_voices=args.voices, seed=args.seed)
        write_train_text(passages, args.out)
    if not tasks:
        raise TrainingError("nothing to do: give --recordings or --sentences", code="no_recordings")
    return tasks


def _with_licence(argument: str) -> tuple[Path, str]:
    """ "FILE=CC0 1.0" as a path and a licence; without one, the licence is empty."""
    path, _, licence = argument.partition("=")
    return Path(path), licence
