"""Scores: notes in beats with the tempo and meter that a MIDI file prints, no performance.

Knows MIDI files. Does not know how anyone plays (see performance).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import mido
import numpy as np

from model.errors import AudioError

DEFAULT_TEMPO = 120.0
DRUMS = 9  # the channel that General MIDI keeps for percussion


@dataclass(frozen=True)
class Note:
    onset: float  # beats (quarter notes) from the start
    duration: float  # beats
    pitch: int  # MIDI number, 60 = middle C
    hand: int  # 0 = upper staff, 1 = lower staff
    velocity: int = 80  # as printed; most scores say nothing


@dataclass(frozen=True)
class Score:
    notes: tuple[Note, ...]  # by onset, then pitch
    tempi: tuple[tuple[float, float], ...]  # (beat, beats per minute), the first at 0
    bars: tuple[float, ...]  # the beat of every bar line, the first at 0

    @property
    def beats(self) -> float:
        return max((note.onset + note.duration for note in self.notes), default=0.0)

    def seconds_at(self, beat: float) -> float:
        """Nominal time of a beat, from the printed tempi."""
        seconds = 0.0
        for index, (start, tempo) in enumerate(self.tempi):
            end = self.tempi[index + 1][0] if index + 1 < len(self.tempi) else beat
            if beat <= start:
                break
            seconds += (min(end, beat) - start) * 60.0 / tempo
        return seconds

    def tempo_at(self, beat: float) -> float:
        return [tempo for start, tempo in self.tempi if start <= beat][-1]

    def from_beat(self, start: float) -> Score:
        """The score from a beat on, moved to begin at 0."""
        if start <= 0.0:
            return self
        notes = tuple(replace(note, onset=note.onset - start) for note in self.notes if note.onset >= start)
        later = ((beat - start, tempo) for beat, tempo in self.tempi if beat > start)
        bars = tuple(bar - start for bar in self.bars if bar >= start)
        return Score(notes, ((0.0, self.tempo_at(start)), *later), bars or (0.0,))


def make_score(
    notes: Sequence[Note], *, tempo: float, beats_per_bar: float, length: float | None = None
) -> Score:
    """A score in one tempo and one meter."""
    ordered = tuple(sorted(notes, key=lambda note: (note.onset, note.pitch)))
    end = length or max(note.onset + note.duration for note in ordered)
    bars = tuple(float(bar) for bar in np.arange(0.0, end, beats_per_bar))
    return Score(ordered, ((0.0, tempo),), bars)


def read_score(path: Path) -> Score:
    """A MIDI file as a score. Raises AudioError if it is not one or holds no notes."""
    try:
        file = mido.MidiFile(path, clip=True)
    except (OSError, EOFError, ValueError, KeyError, IndexError) as error:
        raise AudioError(f"{path} cannot be read as MIDI: {error}", code="unreadable_score") from error
    if file.ticks_per_beat <= 0:
        raise AudioError(f"{path} counts time in frames, not beats", code="unreadable_score")
    notes: list[Note] = []
    tempi: dict[float, float] = {0.0: DEFAULT_TEMPO}
    meters: dict[float, float] = {0.0: 4.0}
    for track in file.tracks:
        notes += _track_notes(track, file.ticks_per_beat)
        tick = 0
        for message in track:
            tick += message.time
            if message.type == "set_tempo":
                tempi[tick / file.ticks_per_beat] = float(np.clip(mido.tempo2bpm(message.tempo), 20.0, 320.0))
            elif message.type == "time_signature":
                meters[tick / file.ticks_per_beat] = 4.0 * message.numerator / message.denominator
    if not notes:
        raise AudioError(f"{path} holds no notes", code="unreadable_score")
    ordered = tuple(sorted(_with_hands(notes), key=lambda note: (note.onset, note.pitch)))
    end = max(note.onset + note.duration for note in ordered)
    return Score(ordered, tuple(sorted(tempi.items())), _bar_lines(meters, end))


def _track_notes(track: mido.MidiTrack, ticks_per_beat: int) -> list[Note]:
    """Notes of one track; `hand` is not known yet."""
    notes = []
    sounding: dict[tuple[int, int], tuple[int, int]] = {}
    tick = 0
    for message in track:
        tick += message.time
        if message.type not in ("note_on", "note_off") or message.channel == DRUMS:
            continue
        key = (message.channel, message.note)
        if key in sounding:
            start, velocity = sounding.pop(key)
            if tick > start:
                beat, duration = start / ticks_per_beat, (tick - start) / ticks_per_beat
                notes.append(Note(beat, duration, message.note, 0, velocity))
        if message.type == "note_on" and message.velocity > 0:
            sounding[key] = (tick, message.velocity)
    return [note for note in notes if 21 <= note.pitch <= 108]


def _with_hands(notes: list[Note]) -> list[Note]:
    """Staves come as tracks in any order, so the hand is told from pitch: below the running middle is left."""
    onsets = np.array([note.onset for note in notes])
    pitches = np.array([note.pitch for note in notes])
    result = []
    for note in notes:
        near = pitches[np.abs(onsets - note.onset) <= 2.0]
        middle = (int(near.max()) + int(near.min())) / 2.0 if np.ptp(near) > 9 else 60.0
        result.append(replace(note, hand=0 if note.pitch >= middle else 1))
    return result


def _bar_lines(meters: dict[float, float], end: float) -> tuple[float, ...]:
    starts = sorted(meters)
    bars: list[float] = []
    for start, stop in zip(starts, [*starts[1:], end], strict=True):
        bars += [float(bar) for bar in np.arange(start, max(stop, start), meters[start])]
    return tuple(bars) or (0.0,)
