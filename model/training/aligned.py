"""Clips whose phones or notes are known frame by frame, because they were synthesized from them.

Speech comes from engines that tell their phones (phones.py), piano from fluidsynth and notes composed here. The
tokenizer's training uses such clips as a small supervised task beside masked prediction, and the probes measure with
other voices and other notes what any kind of token tells about them. Everything follows from a seed. Knows no model.
"""

from __future__ import annotations

import struct
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, fields, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import soundfile
import torch
from tqdm import tqdm

from model.config import SAMPLE_RATE
from model.errors import TrainingError
from model.training.corpus.room import record
from model.training.corpus.waveform import resample
from model.training.festival import VOICES as FESTIVAL_VOICES
from model.training.festival import Festival
from model.training.phones import FIRST_VOWEL, Espeak, Spoken, speak_flite

FRAME_RATE = 25  # of the labels; a frame's label is what sounds at its center
LOWEST_KEY, NUM_KEYS = 21, 88  # MIDI numbers of a piano
# Variants that the corpora, too, use for training only.
ESPEAK_VARIANTS = "m1 f1 m2 f4 f5 m7 klatt linda max steph belinda Andy Lee anika".split()  # noqa: SIM905
ESPEAK_VOICES = tuple(
    f"{language}+{variant}"
    for language in ("en-us", "en", "de", "fr", "en-gb-scotland", "en-us", "es")
    for variant in ESPEAK_VARIANTS
)
FLITE_VOICES = ("rms", "slt")
PROBE_VOICES = ("awb", "kal16")  # flite's others, kept for measuring
SIZES = (0.82, 1.2)  # of speakers: above 1, resonances and pitch are lower, and they speak more slowly


@dataclass(frozen=True)
class AlignedClips:
    """Clips of equal length with a label per frame at FRAME_RATE.

    waveform [n, N] int16 at 16 kHz; phones [n, S] index into PHONES or -1 where unknown; notes [n, S, 88] bool,
    all False for speech; strikes [n, S, 88] bool, where one of them begins; speaker [n] index of the voice.
    """

    waveform: npt.NDArray[np.int16]
    phones: npt.NDArray[np.int64]
    notes: npt.NDArray[np.bool_]
    strikes: npt.NDArray[np.bool_]
    speaker: npt.NDArray[np.int64]

    def save(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        np.savez(path, **{f.name: getattr(self, f.name) for f in fields(self)})

    @classmethod
    def load(cls, path: Path) -> AlignedClips:
        with np.load(path) as stored:
            return cls(*(stored[f.name] for f in fields(cls)))

    def rows(self, chosen: npt.NDArray[np.int64]) -> torch.Tensor:
        """Waveforms of `chosen` clips, [len(chosen), N] float32."""
        return torch.from_numpy(self.waveform[chosen].astype(np.float32) / 32767)

    @property
    def has_notes(self) -> npt.NDArray[np.bool_]:
        """[n]: whether the clip is piano."""
        return np.asarray(self.notes.any(axis=(1, 2)))

    @property
    def strokes(self) -> npt.NDArray[np.float32]:
        """[n, S]: 1 where a note or a vowel begins, 0 where none does, -1 where that is not known."""
        before = np.pad(self.phones[:, :-1], ((0, 0), (1, 0)), constant_values=-1)
        vowel = (self.phones >= FIRST_VOWEL) & (self.phones != before)
        spoken = np.where((self.phones < 0) | (before < 0), -1.0, vowel)
        return np.where(self.has_notes[:, None], self.strikes.any(-1), spoken).astype(np.float32)


def join(parts: Sequence[AlignedClips]) -> AlignedClips:
    """All clips of `parts`, speakers kept apart."""
    shifted, first = [], 0
    for part in parts:
        shifted.append(replace(part, speaker=part.speaker + first))
        first += int(part.speaker.max()) + 1
    return AlignedClips(
        *(np.concatenate([getattr(part, f.name) for part in shifted]) for f in fields(AlignedClips))
    )


# -- speech ----------------------------------------------------------------------------------------------------------


def babble(rng: np.random.Generator) -> str:
    """A sentence of made-up words, for when no text is at hand."""
    onsets = (*"pbtdkgfvszjhmnlrwy", "th", "sh", "ch", "st", "tr", "pl", "kr")
    vowels = (*"aeiou", "ee", "oo", "ai", "ow", "oy", "ar", "er", "aw")
    words = [
        "".join(str(rng.choice(onsets)) + str(rng.choice(vowels)) for _ in range(rng.integers(1, 4)))
        for _ in range(12)
    ]
    return " ".join(words) + "."


class Speakers:
    """The engines behind voices, each started once."""

    def __init__(self, voices: Sequence[str]) -> None:
        self._espeak = Espeak() if any("+" in voice for voice in voices) else None
        with ExitStack() as started:  # ends those that started where one does not
            names = sorted(set(voices) & set(FESTIVAL_VOICES))
            self._festival = {name: started.enter_context(closing(Festival(name))) for name in names}
            self._started = started.pop_all()

    def say(self, voice: str, sentences: Sequence[str], rng: np.random.Generator) -> Spoken:
        """One of `sentences`, babble without any, or what the voice's own language babbles."""
        festival = self._festival.get(voice)
        if festival is not None and festival.language.onsets:
            return festival.speak(festival.language.made_up(rng), rng)
        text = str(rng.choice(sentences)) if len(sentences) else babble(rng)
        if festival is not None:
            return festival.speak(text, rng)
        if self._espeak and "+" in voice:
            return self._espeak.speak(text, voice, rng)
        return speak_flite(text, voice, rng)

    def close(self) -> None:
        """End the engines' processes."""
        self._started.close()


def render_speech(
    seed: int,
    count: int,
    seconds: float,
    voices: Sequence[str],
    sentences: Sequence[str] = (),
    *,
    varied: bool = False,
) -> AlignedClips:
    """`count` clips by voices of espeak-ng (those with a "+"), festival and flite. Without `sentences`, babble.

    `varied`: speakers of other sizes than the engines' own, and every clip in a room of its own.
    """
    rng = np.random.default_rng([seed, 1])
    num_samples, num_frames = round(seconds * SAMPLE_RATE), round(seconds * FRAME_RATE)
    waveform = np.zeros((count, num_samples), np.int16)
    phones = np.full((count, num_frames), -1)
    speaker = np.arange(count) % len(voices)
    center = (np.arange(num_frames) + 0.5) / FRAME_RATE
    with closing(Speakers(voices)) as speakers:
        for row in tqdm(range(count), desc="speech with known phones", unit="clip"):
            position = 0
            while position < num_samples:
                spoken, starts = speakers.say(voices[speaker[row]], sentences, rng)
                if varied:
                    size = float(rng.uniform(*SIZES))
                    spoken = resample(spoken, SAMPLE_RATE, SAMPLE_RATE * size)
                    starts = [(start * size, phone) for start, phone in starts]
                peak = max(1e-3, float(np.abs(spoken).max()))
                stop = min(num_samples, position + len(spoken))
                waveform[row, position:stop] = spoken[: stop - position] * (0.7 / peak) * 32767
                begin = np.array([start for start, _ in starts]) + position / SAMPLE_RATE
                index = np.searchsorted(begin, center, side="right") - 1
                inside = (index >= 0) & (center < stop / SAMPLE_RATE)
                phones[row, inside] = np.array([phone for _, phone in starts])[index[inside]]
                position += len(spoken)
            if varied:
                waveform[row] = in_a_room(waveform[row], rng)
    silent = np.zeros((count, num_frames, NUM_KEYS), bool)
    return AlignedClips(waveform, phones, silent, silent, speaker)


def in_a_room(waveform: npt.NDArray[np.int16], rng: np.random.Generator) -> npt.NDArray[np.int16]:
    """[N] as recorded somewhere: what the corpora do to their sound, too."""
    heard = record(waveform.astype(np.float32) / np.float32(32767), rng)
    return np.asarray((heard.clip(-1, 1) * 32767).astype(np.int16))


# -- piano ------------------------------------------------------------------------------------------------------------

Note = tuple[float, float, int, int]  # onset and offset in seconds, MIDI key, velocity


def compose(rng: np.random.Generator, seconds: float) -> Iterator[Note]:
    """Random music in one key: a melody over chords or broken chords."""
    tonic, scale = int(rng.integers(12)), [(0, 2, 4, 5, 7, 9, 11), (0, 2, 3, 5, 7, 8, 11)][rng.integers(2)]

    def key(degree: int) -> int:
        return tonic + 12 * (degree // 7) + scale[degree % 7]

    beat, loudness = rng.uniform(0.22, 0.75), int(rng.integers(45, 95))
    melody, root = int(rng.integers(30, 45)), int(rng.integers(18, 25))
    broken, legato = rng.random() < 0.5, rng.uniform(0.6, 1.3)
    time = 0.0
    while time < seconds:
        root = int(np.clip(root + rng.integers(-4, 5), 14, 28))
        for position in range(4):
            for member in (0, 2, 4):
                if position == 0 if not broken else position in (member // 2, 3):
                    onset = time + position * beat
                    held = beat * legato * (1 if broken else 3.8)
                    yield onset, onset + held, key(root + member), loudness - int(rng.integers(20))
            if rng.random() < 0.85:
                melody = int(np.clip(melody + rng.integers(-3, 4), 26, 50))
                parts = int(rng.choice([1, 1, 2, 4]))
                for part in range(parts):
                    onset = time + (position + part / parts) * beat
                    yield (
                        onset,
                        onset + beat / parts * legato,
                        key(melody + part),
                        loudness + int(rng.integers(20)),
                    )
        time += 4 * beat


def midi_file(notes: Sequence[Note], program: int) -> bytes:
    """A standard MIDI file, format 0, 1000 ticks per second."""
    events = sorted(
        [(round(1000 * on), 1, key, velocity) for on, _, key, velocity in notes]
        + [(max(round(1000 * off), round(1000 * on) + 1), 0, key, 0) for on, off, key, _ in notes]
    )
    track, last = (
        bytearray(b"\x00\xff\x51\x03\x07\xa1\x20\x00\xc0" + bytes([program])),
        0,
    )  # half a second per beat
    for tick, on, key, velocity in events:
        delta, last = tick - last, tick
        length = [delta & 127]
        while delta := delta >> 7:
            length.insert(0, delta & 127 | 128)
        track += bytes(length) + bytes([0x90 if on else 0x80, key, velocity])
    track += b"\x00\xff\x2f\x00"
    return (
        b"MThd" + struct.pack(">IHHH", 6, 0, 1, 500) + b"MTrk" + struct.pack(">I", len(track)) + bytes(track)
    )


def render_piano(
    seed: int, count: int, seconds: float, programs: Sequence[int] = (0, 1, 3), *, varied: bool = False
) -> AlignedClips:
    """`count` clips of composed music on General MIDI pianos, by fluidsynth with its default sound font.

    `varied`: every clip in a room of its own.
    Raises TrainingError when fluidsynth is not installed.
    """
    rng = np.random.default_rng([seed, 2])
    num_samples, num_frames = round(seconds * SAMPLE_RATE), round(seconds * FRAME_RATE)
    waveform = np.zeros((count, num_samples), np.int16)
    notes = np.zeros((count, num_frames, NUM_KEYS), bool)
    strikes = np.zeros_like(notes)
    speaker = np.arange(count) * len(programs) // count
    for program in range(len(programs)):
        rows = np.flatnonzero(speaker == program)
        played: list[Note] = []
        for place, row in enumerate(rows):
            for on, off, key, velocity in compose(rng, seconds - 1.0):
                if on < seconds - 0.2:
                    off = min(off, seconds - 0.05)
                    first, last = round(on * FRAME_RATE), round(off * FRAME_RATE)
                    notes[row, first : max(last, first + 1), key - LOWEST_KEY] = True
                    strikes[row, int(on * FRAME_RATE), key - LOWEST_KEY] = True
                    played.append((place * seconds + on, place * seconds + off, key, min(127, velocity)))
        with tempfile.TemporaryDirectory() as folder:
            score, sound = Path(folder) / "notes.mid", Path(folder) / "notes.wav"
            score.write_bytes(midi_file(played, programs[program]))
            command = [
                "fluidsynth",
                "-ni",
                "-q",
                "-F",
                str(sound),
                "-r",
                str(SAMPLE_RATE),
                "-g",
                "0.5",
                str(score),
            ]
            try:
                subprocess.run(command, capture_output=True, check=True)
            except (FileNotFoundError, subprocess.CalledProcessError) as error:
                raise TrainingError(f"fluidsynth does not play: {error}") from None
            samples = soundfile.read(sound, dtype="float32", always_2d=True)[0].mean(1)
        samples = samples * (0.7 / max(1e-3, float(np.abs(samples).max())))
        for place, row in enumerate(rows):
            part = samples[place * num_samples : (place + 1) * num_samples]
            waveform[row, : len(part)] = (part * 32767).astype(np.int16)
            if varied:
                waveform[row] = in_a_room(waveform[row], rng)
    return AlignedClips(waveform, np.full((count, num_frames), -1), notes, strikes, speaker)
