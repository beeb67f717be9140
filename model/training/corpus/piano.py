"""Piano clips: a score or an exercise, a player, an instrument, a room.

Every piece of a split is used before one comes back; which piece a clip plays follows from the seed, the split
and the clip's number alone, so a corpus can be extended without changing what is there.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from model.errors import TrainingError
from model.training.corpus.exercises import draw_exercise
from model.training.corpus.instruments import Piano, draw_instrument
from model.training.corpus.performance import draw_player, perform
from model.training.corpus.recordings import read_table, split_of
from model.training.corpus.rendering import Clip, task_rng
from model.training.corpus.room import record
from model.training.corpus.score import Score, read_score
from model.training.corpus.waveform import SAMPLE_RATE, Waveform, resample

CLIP_SECONDS = (18.0, 30.0)  # how long a clip may be, drawn per clip
MEAN_SECONDS = 23.5  # what clips last on average (some pieces are short); turns hours into numbers of clips
RING_OUT = 1.5  # seconds after the last note
MIDI_SUFFIXES = frozenset({".mid", ".midi"})


@dataclass(frozen=True)
class Piece:
    file: Path
    speaker: str
    split: str
    licence: str
    source: str


@dataclass(frozen=True)
class PianoClip:
    """One clip to be rendered; `piece` None means a generated exercise."""

    name: str
    split: str
    piece: Piece | None
    instruments: tuple[Piano, ...]

    def make(self, rng: np.random.Generator) -> list[Clip]:
        if self.piece is None:
            title, score = draw_exercise(rng)
            speaker, licence, source = f"exercise:{title}", "CC0 1.0", f"exercise {title}"
        else:
            score = read_score(self.piece.file)
            speaker, licence, source = self.piece.speaker, self.piece.licence, self.piece.source
        instrument = draw_instrument(self.instruments, rng)
        wanted = float(rng.uniform(*CLIP_SECONDS))
        player = draw_player(rng)
        performance = perform(_excerpt(score, wanted, rng), player, rng)
        seconds = min(wanted, performance.seconds + RING_OUT)
        sound = instrument.play(performance.until(seconds), seconds)
        cents = float(rng.normal(0.0, 8.0))  # pianos are not tuned alike
        sound = _exactly(resample(sound, SAMPLE_RATE * 2.0 ** (cents / 1200.0), SAMPLE_RATE), seconds)
        source = f"{source}; {instrument.name}; skill {player.skill:.2f}"
        licence = f"{licence}; instrument {instrument.licence}"
        return [Clip(record(sound, rng), self.name, "piano", speaker, self.split, licence, source)]


def find_pieces(folder: Path) -> list[Piece]:
    """Scores below a folder; speaker, split and licence from the manifest.csv of this folder or its parent.

    Without a table every file is a piece of its own and the split follows from its name. Raises TrainingError.
    """
    if not folder.is_dir():
        raise TrainingError(f"no folder {folder}", code="no_scores")
    table = next(
        (place / "manifest.csv" for place in (folder, folder.parent) if (place / "manifest.csv").is_file()),
        None,
    )
    pieces = []
    if table:
        for row in read_table(table):
            file = table.parent / row["path"]
            if file.suffix.lower() in MIDI_SUFFIXES and file.is_relative_to(folder):
                source = f"{row.get('source_repo') or row.get('source') or folder.name} {file.stem}"
                pieces.append(Piece(file, row["speaker"], row["split"], row["licence"], source))
    else:
        for file in sorted(folder.rglob("*")):
            if file.suffix.lower() in MIDI_SUFFIXES:
                speaker = f"piece:{file.relative_to(folder).with_suffix('').as_posix()}"
                pieces.append(
                    Piece(file, speaker, split_of(speaker), "unknown", f"{folder.name} {file.stem}")
                )
    if not pieces:
        raise TrainingError(f"{folder} holds no MIDI files", code="no_scores")
    return pieces


def plan_piano(
    pieces: Sequence[Piece],
    instruments: Sequence[Piano],
    hours: dict[str, float],
    *,
    seed: int,
    exercise_share: float,
) -> list[PianoClip]:
    """Clips of about `hours` per split; `exercise_share` of those in train are exercises.

    Raises TrainingError if a wanted split has no piece.
    """
    clips = []
    for split, wanted in hours.items():
        own = [piece for piece in pieces if piece.split == split]
        count = round(wanted * 3600.0 / MEAN_SECONDS)
        if count and not own and split != "train":
            raise TrainingError(
                f"no scores in the split {split!r}: give more, or --held-out-hours 0", code="no_scores"
            )
        share = exercise_share if own else 1.0
        for number in range(count):
            name = f"piano/{split}/{number:05d}"
            exercise = split == "train" and task_rng(seed, f"exercise {name}").random() < share
            piece = None if exercise else own[_turn(number, len(own), seed, split)]
            clips.append(PianoClip(name, split, piece, tuple(instruments)))
    return clips


def _turn(number: int, count: int, seed: int, split: str) -> int:
    """Which of `count` pieces has its turn: a new order for every round."""
    order = task_rng(seed, f"order {split} {number // count}").permutation(count)
    return int(order[number % count])


def _excerpt(score: Score, seconds: float, rng: np.random.Generator) -> Score:
    """The score from some bar on, with enough left to play."""
    latest = score.seconds_at(score.beats) - 0.8 * seconds
    starts = [bar for bar in score.bars if score.seconds_at(bar) <= latest]
    if not starts or rng.random() < 0.2:
        return score
    excerpt = score.from_beat(starts[int(rng.integers(len(starts)))])
    first = excerpt.notes[0].onset  # no long rest at the start
    return excerpt.from_beat(max((bar for bar in excerpt.bars if bar <= first), default=0.0))


def _exactly(waveform: Waveform, seconds: float) -> Waveform:
    count = round(seconds * SAMPLE_RATE)
    return np.pad(waveform[:count], (0, max(0, count - len(waveform))))
