"""Exercises made from rules: scales, arpeggios, five-finger patterns, cadences, waltzes, songs with a bass.

They put every key, register and hand position into a corpus, which pieces alone do not. The rules are
common property of piano teaching; nothing is taken from a book.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from model.training.corpus.score import Note, Score, make_score

KEY_NAMES = ("C", "D flat", "D", "E flat", "E", "F", "F sharp", "G", "A flat", "A", "B flat", "B")
MODES = {
    "major": (0, 2, 4, 5, 7, 9, 11),
    "natural minor": (0, 2, 3, 5, 7, 8, 10),
    "harmonic minor": (0, 2, 3, 5, 7, 8, 11),
}
PROGRESSIONS = ((0, 3, 4, 0), (0, 5, 3, 4), (0, 3, 0, 4), (5, 3, 0, 4), (0, 1, 4, 0), (0, 4, 5, 3))


class Key:
    """A tonic and a mode; counts in scale degrees."""

    def __init__(self, tonic: int, mode: str) -> None:
        self.tonic, self.mode = tonic, mode

    def pitch(self, degree: int, octave: int) -> int:
        """MIDI number of a degree (0 = tonic, may be negative or beyond 6), tonic in the given octave."""
        steps = MODES[self.mode]
        return 12 * (octave + 1 + degree // 7) + self.tonic + steps[degree % 7]

    def triad(self, degree: int, octave: int) -> list[int]:
        return [self.pitch(degree + third, octave) for third in (0, 2, 4)]


def draw_exercise(rng: np.random.Generator) -> tuple[str, Score]:
    """A name ("scale in D minor") and a score."""
    form = str(rng.choice(list(FORMS)))
    mode = str(rng.choice(list(MODES), p=(0.6, 0.2, 0.2)))
    tonic = int(rng.integers(12))
    tempo = float(rng.uniform(60.0, 132.0))
    notes, beats_per_bar = FORMS[form](Key(tonic, mode), rng)
    playable = [note for note in notes if 21 <= note.pitch <= 108]
    name = f"{form} in {KEY_NAMES[tonic]} {mode}"
    return name, make_score(playable, tempo=tempo, beats_per_bar=beats_per_bar)


def _hands(rng: np.random.Generator) -> list[tuple[int, int]]:
    """(hand, octaves below the right hand) of the hands that play."""
    return [[(0, 0)], [(1, 1)], [(0, 0), (1, 1)], [(0, 0), (1, 2)]][int(rng.integers(4))]


def _line(pitches: Sequence[int], step: float, start: float, hand: int) -> list[Note]:
    return [Note(start + step * number, step, pitch, hand) for number, pitch in enumerate(pitches)]


def _up_and_down(top: int) -> list[int]:
    return [*range(top), *range(top, -1, -1)]


def _scale(key: Key, rng: np.random.Generator) -> tuple[list[Note], float]:
    octaves, step = int(rng.integers(1, 5)), float(rng.choice([0.25, 0.5, 1.0]))
    interval = int(rng.choice([0, 0, 0, 2, 5, 7]))  # in unison, thirds, sixths, octaves
    octave = int(rng.integers(3, 5)) if octaves < 4 else 3
    degrees = _up_and_down(7 * octaves)
    notes = []
    for repeat in range(int(rng.integers(1, 4))):
        start = repeat * (len(degrees) + 1) * step
        for hand, below in _hands(rng):
            notes += _line([key.pitch(degree, octave - below) for degree in degrees], step, start, hand)
            if interval:
                notes += _line(
                    [key.pitch(degree + interval, octave - below) for degree in degrees], step, start, hand
                )
    return notes, 4.0


def _chromatic(key: Key, rng: np.random.Generator) -> tuple[list[Note], float]:
    octaves, step = int(rng.integers(1, 4)), float(rng.choice([0.25, 0.5]))
    low = key.pitch(0, 3)
    notes = []
    for hand, below in _hands(rng):
        notes += _line([low - 12 * below + degree for degree in _up_and_down(12 * octaves)], step, 0.0, hand)
    return notes, 4.0


def _arpeggio(key: Key, rng: np.random.Generator) -> tuple[list[Note], float]:
    octaves, step = int(rng.integers(1, 4)), float(rng.choice([0.25, 0.5, 1 / 3]))
    seventh = bool(rng.random() < 0.3)
    tones = (0, 2, 4, 6) if seventh else (0, 2, 4)
    degrees = [
        tones[place % len(tones)] + 7 * (place // len(tones)) for place in _up_and_down(octaves * len(tones))
    ]
    notes, start, hands = [], 0.0, _hands(rng)
    for chord in PROGRESSIONS[int(rng.integers(len(PROGRESSIONS)))]:
        for hand, below in hands:
            notes += _line([key.pitch(chord + degree, 3 - below) for degree in degrees], step, start, hand)
        start += step * len(degrees)
    return notes, 4.0


def _five_fingers(key: Key, rng: np.random.Generator) -> tuple[list[Note], float]:
    """One drawn pattern of eight, moved up the scale and down again."""
    pattern = [0, *(int(degree) for degree in rng.integers(0, 6, 7))]
    step = float(rng.choice([0.25, 0.5]))
    notes = []
    for hand, below in _hands(rng):
        for place, root in enumerate(_up_and_down(int(rng.integers(4, 9)))):
            pitches = [key.pitch(root + degree, 4 - below) for degree in pattern]
            notes += _line(pitches, step, place * 8 * step, hand)
    return notes, 4.0


def _cadence(key: Key, rng: np.random.Generator) -> tuple[list[Note], float]:
    notes, start = [], 0.0
    for _ in range(int(rng.integers(2, 5))):
        for chord in PROGRESSIONS[int(rng.integers(len(PROGRESSIONS)))]:
            length = float(rng.choice([1.0, 2.0]))
            upper = key.triad(chord, 4)
            for turn in range(int(rng.integers(3))):  # an inversion keeps the hand near
                upper[turn] += 12
            notes += [Note(start, length, pitch, 0) for pitch in upper]
            notes += [Note(start, length, key.pitch(chord, octave), 1) for octave in (2, 3)]
            start += length
    return notes, 4.0


def _melody(key: Key, bars: int, beats_per_bar: float, rng: np.random.Generator) -> list[Note]:
    """A walk over the scale that rests on a chord tone at bar lines and moves mostly by step."""
    notes, degree, beat = [], int(rng.integers(0, 8)), 0.0
    rhythm = [float(length) for length in rng.choice([0.5, 0.5, 1.0, 1.0, 1.5, 2.0], size=6)]
    place = 0
    while beat < bars * beats_per_bar:
        length = min(rhythm[place % len(rhythm)], bars * beats_per_bar - beat)
        if rng.random() > 0.06:
            notes.append(Note(beat, length, key.pitch(degree, 4), 0))
        degree = int(np.clip(degree + rng.choice([-3, -2, -1, -1, 0, 1, 1, 2, 4]), -3, 12))
        if (beat + length) % beats_per_bar == 0.0 and degree % 7 not in (0, 2, 4):
            degree -= 1
        beat += length
        place += 1
    return notes


def _song(key: Key, rng: np.random.Generator) -> tuple[list[Note], float]:
    """A melody over a broken-chord bass."""
    bars = 4 * int(rng.integers(2, 5))
    figure = [(0, 4, 2, 4), (0, 2, 4, 2), (0, 4, 7, 4)][int(rng.integers(3))]
    step = float(rng.choice([0.5, 1.0]))
    notes = _melody(key, bars, 4.0, rng)
    progression = PROGRESSIONS[int(rng.integers(len(PROGRESSIONS)))]
    for bar in range(bars):
        chord = progression[bar % 4]
        for place in range(round(4.0 / step)):
            pitch = key.pitch(chord + figure[place % 4], 3 if chord < 4 else 2)
            notes.append(Note(4.0 * bar + place * step, step, pitch, 1))
    return notes, 4.0


def _waltz(key: Key, rng: np.random.Generator) -> tuple[list[Note], float]:
    bars = 4 * int(rng.integers(3, 8))
    notes = _melody(key, bars, 3.0, rng)
    progression = PROGRESSIONS[int(rng.integers(len(PROGRESSIONS)))]
    for bar in range(bars):
        chord = progression[bar // 2 % 4]
        notes.append(Note(3.0 * bar, 1.0, key.pitch(chord, 2), 1))
        for beat in (1.0, 2.0):
            notes += [Note(3.0 * bar + beat, 0.8, pitch, 1) for pitch in key.triad(chord, 3)]
    return notes, 3.0


Form = Callable[[Key, np.random.Generator], tuple[list[Note], float]]
FORMS: dict[str, Form] = {
    "scale": _scale,
    "chromatic scale": _chromatic,
    "arpeggio": _arpeggio,
    "five fingers": _five_fingers,
    "cadence": _cadence,
    "song": _song,
    "waltz": _waltz,
}
