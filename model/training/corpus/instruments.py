"""Instruments that turn a performance into sound: soundfont programs and folders of samples.

fluidsynth runs as a program with its own reverb and chorus off, because rooms are drawn elsewhere.
"""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import mido
import numpy as np

from model.errors import TrainingError
from model.training.corpus.performance import Performance
from model.training.corpus.sampler import load_sampler
from model.training.corpus.waveform import Waveform, read_waveform

PIANO_PROGRAMS = {"grand": 0, "bright": 1, "electric grand": 2, "honky-tonk": 3}  # General MIDI
RARE_PROGRAMS = ("electric grand", "honky-tonk")
SOUNDFONT_LICENCES = {"FluidR3_GM": "MIT", "TimGM6mb": "GPL-2 soundfont"}
RENDER_RATE = 44_100


class Piano(Protocol):
    """A frozen dataclass that can be pickled."""

    @property
    def name(self) -> str: ...
    @property
    def licence(self) -> str: ...
    def play(self, performance: Performance, seconds: float) -> Waveform:
        """waveform [N] at 16 kHz of about `seconds`, not normalized."""
        ...


@dataclass(frozen=True)
class SampledPiano:
    """A folder of recorded notes."""

    folder: Path
    licence: str

    @property
    def name(self) -> str:
        return self.folder.name

    def play(self, performance: Performance, seconds: float) -> Waveform:
        return load_sampler(self.folder).play(performance, seconds)


@dataclass(frozen=True)
class SoundfontPiano:
    """One program of a General MIDI soundfont, played by fluidsynth."""

    soundfont: Path
    program: str  # one of PIANO_PROGRAMS
    licence: str

    @property
    def name(self) -> str:
        return f"{self.soundfont.stem} {self.program}"

    def play(self, performance: Performance, seconds: float) -> Waveform:
        with tempfile.TemporaryDirectory(prefix="audiolm-corpus-") as folder:
            midi, sound = Path(folder, "performance.mid"), Path(folder, "performance.wav")
            midi_of(performance, PIANO_PROGRAMS[self.program], seconds).save(midi)
            command = [
                *("fluidsynth", "-q", "-n", "-i", "-R", "0", "-C", "0", "-g", "0.25"),
                *("-r", str(RENDER_RATE), "-o", "synth.cpu-cores=1", "-o", "synth.polyphony=256"),
                *("-o", "synth.dynamic-sample-loading=1", "-O", "float", "-T", "wav"),
                *("-F", str(sound), str(self.soundfont), str(midi)),
            ]
            done = subprocess.run(command, capture_output=True, text=True, timeout=300)
            if done.returncode or not sound.is_file():
                reason = (done.stderr or done.stdout).strip().splitlines()
                raise TrainingError(f"fluidsynth failed: {reason[-1] if reason else done.returncode}")
            return read_waveform(sound)


def midi_of(performance: Performance, program: int, seconds: float) -> mido.MidiFile:
    """A MIDI file in which one tick is one millisecond, lasting `seconds`."""
    events = [(0.0, mido.Message("program_change", program=program))]
    for note in performance.notes:
        events.append((note.onset, mido.Message("note_on", note=note.pitch, velocity=note.velocity)))
        events.append((note.onset + note.duration, mido.Message("note_off", note=note.pitch)))
    for time, value in performance.pedal:
        events.append((time, mido.Message("control_change", control=64, value=value)))
    events.sort(key=lambda event: event[0])
    track = mido.MidiTrack([mido.MetaMessage("set_tempo", tempo=500_000)])
    tick = 0
    for time, message in events:
        now = max(tick, round(min(time, seconds) * 1000))
        track.append(message.copy(time=now - tick))
        tick = now
    track.append(mido.MetaMessage("end_of_track", time=max(0, round(seconds * 1000) - tick)))
    file = mido.MidiFile(ticks_per_beat=500)
    file.tracks.append(track)
    return file


def find_instruments(
    soundfonts: Sequence[tuple[Path, str]], sample_folders: Sequence[tuple[Path, str]]
) -> list[Piano]:
    """Every program of every soundfont that pianists use, and every sample folder; each path with its licence
    ("" = look up, else unknown). Raises TrainingError for a path that is not there."""
    instruments: list[Piano] = []
    for soundfont, licence in soundfonts:
        if not soundfont.is_file():
            raise TrainingError(f"no soundfont {soundfont}", code="no_instrument")
        licence = licence or SOUNDFONT_LICENCES.get(soundfont.stem, "unknown")
        instruments += [SoundfontPiano(soundfont, program, licence) for program in PIANO_PROGRAMS]
    for folder, licence in sample_folders:
        if not folder.is_dir():
            raise TrainingError(f"no sample folder {folder}", code="no_instrument")
        instruments.append(SampledPiano(folder, licence or "unknown"))
    return instruments


def draw_instrument(instruments: Sequence[Piano], rng: np.random.Generator) -> Piano:
    """Grands and recorded pianos far more often than electric and honky-tonk ones."""
    weights = np.array([0.1 if piano.name.endswith(RARE_PROGRAMS) else 1.0 for piano in instruments])
    return instruments[int(rng.choice(len(instruments), p=weights / weights.sum()))]
