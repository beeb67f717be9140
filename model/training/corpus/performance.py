"""How a player plays a score: tempo, dynamics, touch, pedal, mistakes.

A player is drawn once per clip with a skill from 0 (first lessons) to 1 (concert); most numbers below are
interpolated between what a beginner and what an expert does. Knows notes and seconds, no sound.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from model.training.corpus.score import Note, Score

GRID = 0.25  # beats between the points of a tempo curve


@dataclass(frozen=True)
class PlayedNote:
    onset: float  # seconds
    duration: float  # seconds the key is down
    pitch: int
    velocity: int  # 1..127


@dataclass(frozen=True)
class Performance:
    notes: tuple[PlayedNote, ...]  # by onset
    pedal: tuple[tuple[float, int], ...]  # (seconds, MIDI controller value 0..127), by time

    @property
    def seconds(self) -> float:
        return max((note.onset + note.duration for note in self.notes), default=0.0)

    def until(self, seconds: float) -> Performance:
        """What is begun before `seconds`."""
        notes = tuple(note for note in self.notes if note.onset < seconds)
        return Performance(notes, tuple((time, value) for time, value in self.pedal if time < seconds))


@dataclass(frozen=True)
class Player:
    skill: float  # 0 = first lessons, 1 = concert
    expression: float  # 0 = like a metronome, 1 = romantic
    loudness: float  # mean MIDI velocity
    articulation: float  # part of a note's length that the key stays down
    pedal: str  # "none", "bar" or "harmony"
    phrase_bars: int

    def between(self, beginner: float, expert: float) -> float:
        return beginner + (expert - beginner) * self.skill


def draw_player(rng: np.random.Generator) -> Player:
    skill = float(rng.beta(2.0, 1.2))
    pedals = ("none", "bar", "harmony")
    return Player(
        skill=skill,
        expression=float(rng.uniform(0.1, 1.0) * (0.3 + 0.7 * skill)),
        loudness=float(np.clip(rng.normal(66.0, 12.0), 38.0, 98.0)),
        articulation=float(rng.choice([0.5, 0.8, 0.95, 1.02], p=[0.12, 0.23, 0.4, 0.25])),
        pedal=str(rng.choice(pedals, p=(0.3, 0.2, 0.5) if skill > 0.4 else (0.7, 0.25, 0.05))),
        phrase_bars=int(rng.choice([2, 4, 4, 8])),
    )


def perform(score: Score, player: Player, rng: np.random.Generator) -> Performance:
    """One performance of a whole score; the first note sounds within 0.3 s."""
    notes, bars = _with_restarts(list(score.notes), list(score.bars), player, rng)
    notes = _with_mistakes(notes, player, rng)
    clock = _Clock(replace(score, notes=tuple(notes)), bars, player, rng)
    velocities = _velocities(notes, bars, player, rng)
    played = _touch(notes, velocities, clock, player, rng)
    return Performance(
        tuple(sorted(played, key=lambda note: note.onset)), _pedal(notes, bars, clock, player, rng)
    )


class _Clock:
    """Beats to seconds: printed tempo, the player's own, phrase arcs, drift, hesitations, a final ritardando."""

    def __init__(self, score: Score, bars: Sequence[float], player: Player, rng: np.random.Generator) -> None:
        self.beats = np.arange(0.0, score.beats + 2.0, GRID)
        printed = np.array([60.0 / score.tempo_at(beat) for beat in self.beats])
        pace = _pace(score, player, rng)
        depth = 0.12 * player.expression
        arc = _phrase_arc(self.beats, bars, player.phrase_bars)
        drift = _wander(len(self.beats), 0.03, player.between(0.10, 0.03 + 0.04 * player.expression), rng)
        ending = np.clip((self.beats - (score.beats - 4.0)) / 4.0, 0.0, 1.0) ** 2 * rng.uniform(0.1, 0.5)
        step = printed * np.exp(drift + depth * (0.4 - arc)) * (1.0 + ending * player.expression) / pace
        times = np.concatenate(([0.0], np.cumsum(step[:-1] * GRID)))
        hesitation = rng.random(len(times)) < player.between(0.02, 0.0) * GRID
        times += np.cumsum(hesitation * rng.uniform(0.15, 1.0, len(times)))
        self.times = times + rng.uniform(0.05, 0.3)

    def __call__(self, beat: float) -> float:
        return float(np.interp(beat, self.beats, self.times))


def _pace(score: Score, player: Player, rng: np.random.Generator) -> float:
    """The player's tempo relative to the printed one: no faster than the fingers allow."""
    onsets = sorted({note.onset for note in score.notes})
    seconds = max(score.seconds_at(score.beats), 1.0)
    possible = player.between(2.0, 14.0) / max(len(onsets) / seconds, 0.1)
    return float(min(player.between(0.75, 1.0) * rng.uniform(0.85, 1.15), max(possible, 0.3)))


def _phrase_arc(beats: NDArray[np.float64], bars: Sequence[float], phrase_bars: int) -> NDArray[np.float64]:
    """0 at the ends of a phrase, 1 in its middle."""
    starts = np.array([*bars[::phrase_bars], max(float(beats[-1]), bars[-1]) + 1.0])
    place = np.interp(beats, starts, np.arange(len(starts)))
    return np.asarray(1.0 - (2.0 * (place % 1.0) - 1.0) ** 2)


def _wander(count: int, pull: float, spread: float, rng: np.random.Generator) -> NDArray[np.float64]:
    """A random walk that is pulled back to 0, with standard deviation `spread`."""
    values = np.zeros(count)
    noise = rng.normal(0.0, spread * np.sqrt(2.0 * pull), count)
    for place in range(1, count):
        values[place] = (1.0 - pull) * values[place - 1] + noise[place]
    return values


def _with_restarts(
    notes: list[Note], bars: list[float], player: Player, rng: np.random.Generator
) -> tuple[list[Note], list[float]]:
    """A learner stops at a bar line and plays the last bar again."""
    if len(bars) < 3 or rng.random() > player.between(0.6, -0.3):
        return notes, bars
    place = int(rng.integers(2, len(bars)))
    stop, back = bars[place], bars[place] - bars[place - 1]
    pause = float(rng.choice([0.5, 1.0, 2.0]))
    before = [note for note in notes if note.onset < stop]
    again = [replace(note, onset=note.onset + back + pause) for note in notes if note.onset >= stop - back]
    return before + again, bars[:place] + [bar + back + pause for bar in bars[place - 1 :]]


def _with_mistakes(notes: list[Note], player: Player, rng: np.random.Generator) -> list[Note]:
    rate = player.between(0.035, 0.0) * rng.uniform(0.3, 1.5)
    result = []
    for note in notes:
        if rng.random() >= rate:
            result.append(note)
            continue
        mistake = rng.choice(["neighbour", "left out", "brushed", "twice"], p=[0.45, 0.2, 0.25, 0.1])
        neighbour = replace(note, pitch=int(np.clip(note.pitch + rng.choice([-2, -1, 1, 2]), 21, 108)))
        if mistake == "neighbour":
            result.append(neighbour)
        elif mistake == "brushed":
            result += [
                note,
                replace(neighbour, duration=min(note.duration, 0.2), velocity=note.velocity // 2),
            ]
        elif mistake == "twice":
            half = note.duration / 2
            result += [replace(note, duration=half), replace(note, onset=note.onset + half, duration=half)]
    return result


def _velocities(
    notes: Sequence[Note], bars: Sequence[float], player: Player, rng: np.random.Generator
) -> NDArray[np.float64]:
    onsets = np.array([note.onset for note in notes])
    printed = np.array([note.velocity for note in notes], dtype=np.float64)
    top: dict[float, int] = {}
    for note in notes:
        top[note.onset] = max(top.get(note.onset, 0), note.pitch)
    grid = np.arange(0.0, onsets.max() + 2.0, 1.0)
    swell = np.interp(onsets, grid, _wander(len(grid), 0.05, 4.0 + 8.0 * player.expression, rng))
    melody = np.array([note.hand == 0 and note.pitch == top[note.onset] for note in notes])
    left = np.array([note.hand == 1 for note in notes])
    downbeat = np.isin(onsets, np.array(bars))
    return np.asarray(
        player.loudness
        + 0.6 * (printed - np.median(printed))
        + swell
        + 16.0 * player.expression * (_phrase_arc(onsets, bars, player.phrase_bars) - 0.5)
        + player.between(2.0, rng.uniform(5.0, 13.0)) * melody
        - player.between(0.0, rng.uniform(2.0, 9.0)) * left
        + rng.uniform(0.0, 6.0) * downbeat
        + rng.normal(0.0, player.between(8.0, 3.0), len(notes))
    )


def _touch(
    notes: Sequence[Note],
    velocities: NDArray[np.float64],
    clock: _Clock,
    player: Player,
    rng: np.random.Generator,
) -> list[PlayedNote]:
    """Keys going down and up: hands not quite together, chords spread or rolled, uneven fingers."""
    unevenness = player.between(0.025, 0.005)
    hand_delay = rng.normal(0.0, player.between(0.02, 0.006), 2)
    melody_lead = player.expression * rng.uniform(0.0, 0.025)
    rolls = rng.random() < 0.3 * player.expression
    chords: dict[tuple[float, int], list[int]] = {}
    for note in notes:
        chords.setdefault((note.onset, note.hand), []).append(note.pitch)
    spreads = {key: rng.uniform(0.02, 0.06) * (rolls and rng.random() < 0.5) for key in chords}
    played = []
    for note, velocity in zip(notes, velocities, strict=True):
        key = (note.onset, note.hand)
        place = sorted(chords[key]).index(note.pitch)
        leads = note.hand == 0 and note.pitch == max(chords[key])
        shift = hand_delay[note.hand] + place * spreads[key] - melody_lead * leads
        onset = max(0.0, clock(note.onset) + shift + rng.normal(0.0, unevenness))
        length = clock(note.onset + note.duration) - clock(note.onset)
        held = length * player.articulation * np.exp(rng.normal(0.0, player.between(0.15, 0.05)))
        played.append(
            PlayedNote(onset, float(max(held, 0.04)), note.pitch, int(np.clip(round(velocity), 12, 122)))
        )
    return played


def _pedal(
    notes: Sequence[Note], bars: Sequence[float], clock: _Clock, player: Player, rng: np.random.Generator
) -> tuple[tuple[float, int], ...]:
    """Syncopated pedal: up with the new bar or bass note, down again shortly after."""
    if player.pedal == "none":
        return ()
    changes = set(bars)
    if player.pedal == "harmony":
        previous = None
        for note in sorted(
            (note for note in notes if note.hand == 1), key=lambda note: (note.onset, note.pitch)
        ):
            if previous is None or (
                note.onset - previous.onset >= 1.0 and note.pitch % 12 != previous.pitch % 12
            ):
                changes.add(note.onset)
                previous = note
    depth = int(rng.choice([127, 127, 100, 70]))
    events: list[tuple[float, int]] = []
    for beat in sorted(changes):
        up = clock(beat) + float(rng.normal(0.0, player.between(0.06, 0.015)))
        down = up + float(rng.uniform(0.06, 0.2))
        if up > (events[-1][0] + 0.05 if events else 0.0):
            events += [(up, 0), (down, depth)]
    return tuple(events)
