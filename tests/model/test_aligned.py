"""Clips with known phones and notes: the labels say what is heard."""

from __future__ import annotations

import ctypes.util
import shutil
from pathlib import Path

import numpy as np
import pytest

from model.errors import TrainingError
from model.training import aligned, festival
from model.training.aligned import (
    LOWEST_KEY,
    AlignedClips,
    babble,
    compose,
    join,
    midi_file,
    render_piano,
    render_speech,
)
from model.training.festival import installed_voices
from model.training.phones import ALIASES, ARPABET, PHONES, SILENCE, Espeak, phone_index


def test_every_name_maps_to_a_known_phone() -> None:
    assert len(set(PHONES)) == len(PHONES)
    assert set(ARPABET.values()) | set(ALIASES.values()) <= set(PHONES)
    assert PHONES[phone_index("ˈoʊ")] == "oʊ"
    assert PHONES[phone_index("iː")] == "i"
    assert PHONES[phone_index("")] == SILENCE
    assert phone_index("(fr)") == -1


def test_babble_follows_from_its_seed() -> None:
    text = babble(np.random.default_rng(3))
    assert text == babble(np.random.default_rng(3)) and len(text.split()) == 12


def test_midi_has_every_note_on_and_off_in_order() -> None:
    data = midi_file([(0.0, 0.5, 60, 90), (0.25, 1.0, 64, 80)], program=1)
    assert data[:4] == b"MThd" and data[14:18] == b"MTrk"
    assert int.from_bytes(data[18:22], "big") == len(data) - 22
    events = data[data.index(b"\xc0\x01") + 2 : -4]
    # 250 ticks are 0x81 0x7a, 500 ticks 0x83 0x74, as variable-length quantities
    assert events == bytes(
        [0, 0x90, 60, 90, 0x81, 0x7A, 0x90, 64, 80, 0x81, 0x7A, 0x80, 60, 0, 0x83, 0x74, 0x80, 64, 0]
    )


def test_composed_notes_are_playable() -> None:
    for seed in range(20):
        notes = list(compose(np.random.default_rng(seed), 4.0))
        assert len(notes) >= 3
        assert all(
            21 <= key <= 108 and 1 <= velocity <= 127 and off > on >= 0 for on, off, key, velocity in notes
        )


def test_join_keeps_speakers_apart() -> None:
    one = AlignedClips(
        np.zeros((2, 640), np.int16),
        np.zeros((2, 1), int),
        np.zeros((2, 1, 88), bool),
        np.zeros((2, 1, 88), bool),
        np.array([0, 1]),
    )
    two = AlignedClips(
        np.ones((1, 640), np.int16),
        np.full((1, 1), -1),
        np.ones((1, 1, 88), bool),
        np.ones((1, 1, 88), bool),
        np.array([0]),
    )
    both = join([one, two])
    assert both.speaker.tolist() == [0, 1, 2]
    assert both.has_notes.tolist() == [False, False, True]
    assert both.rows(np.array([2]))[0, 0] == 1 / 32767


def test_notes_and_vowels_are_strokes_where_they_begin() -> None:
    p, i, u = (PHONES.index(phone) for phone in ("p", "i", "u"))
    phones = np.array([[p, i, i, u, p, -1, i, i], [-1] * 8])
    strikes = np.zeros((2, 8, 88), bool)
    strikes[1, 3, 40] = strikes[1, 6, 41] = True
    clips = AlignedClips(np.zeros((2, 8 * 640), np.int16), phones, strikes, strikes, np.arange(2))
    assert clips.strokes.tolist() == [[-1, 1, 0, 1, 0, -1, -1, 0], [0, 0, 0, 1, 0, 0, 1, 0]]


def quiet_and_loud(clips: AlignedClips) -> tuple[float, float]:
    """Mean power of frames labelled as silence and as any phone."""
    power = clips.waveform.astype(float).reshape(len(clips.phones), -1, 640).__pow__(2).mean(-1)
    return float(power[clips.phones == 0].mean()), float(power[clips.phones > 0].mean())


@pytest.mark.skipif(ctypes.util.find_library("espeak-ng") is None, reason="libespeak-ng is not installed")
def test_espeak_says_where_its_phones_are() -> None:
    clips = render_speech(0, 2, 4.0, ("en-us+m1", "en+f1"), ["One. Two. Three.", "Stop. Go on."])
    silence, speech = quiet_and_loud(clips)
    assert silence < 0.05 * speech
    assert (clips.phones >= 0).mean() > 0.9 and len(np.unique(clips.phones)) > 6
    assert clips.speaker.tolist() == [0, 1]
    with pytest.raises(TrainingError, match="xx\\+m1"):
        render_speech(0, 1, 1.0, ("xx+m1",))


@pytest.mark.skipif(ctypes.util.find_library("espeak-ng") is None, reason="libespeak-ng is not installed")
def test_espeak_speaks_again_when_started_again() -> None:
    first, second = (Espeak().speak("Hello, friend.", "en-us", np.random.default_rng(0)) for _ in range(2))
    assert [phone for _, phone in first[1]] == [phone for _, phone in second[1]]
    assert len(first[1]) > 5


@pytest.mark.skipif(shutil.which("flite") is None, reason="flite is not installed")
def test_flite_says_where_its_phones_are() -> None:
    clips = render_speech(0, 1, 4.0, ("kal16",), ["One. Two. Three.", "Stop. Go on."])
    silence, speech = quiet_and_loud(clips)
    assert silence < 0.05 * speech
    assert (clips.phones >= 0).mean() > 0.9 and len(np.unique(clips.phones)) > 6


@pytest.mark.skipif(not installed_voices(), reason="festival has no voice of model.training.festival")
def test_festival_says_where_its_phones_are() -> None:
    """Whatever its language and spelling: only sounds that the common inventory lacks go unnamed."""
    voices = installed_voices()
    clips = render_speech(0, len(voices), 4.0, voices, ['"One," he said. Two (three).', "Stop. Go on."])
    silence, speech = quiet_and_loud(clips)
    assert silence < 0.05 * speech
    for voice, phones in zip(voices, clips.phones, strict=True):
        assert (phones >= 0).mean() > 0.75 and len(np.unique(phones)) > 6, voice


def test_a_festival_voice_that_is_not_installed_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Festival itself would go on in another voice, one that the probes may be measured with."""
    monkeypatch.setattr(festival, "FOLDER", tmp_path)
    with pytest.raises(TrainingError, match="czech_ph is not installed"):
        render_speech(0, 1, 1.0, ("czech_ph",))


@pytest.mark.skipif(not installed_voices(), reason="festival has no voice of model.training.festival")
def test_a_voice_that_fails_ends_the_processes_of_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[festival.Festival] = []

    class Watched(festival.Festival):
        def __init__(self, voice: str) -> None:
            super().__init__(voice)
            started.append(self)

    def fail(*_: object) -> None:
        raise TrainingError("flite does not speak")

    monkeypatch.setattr(aligned, "Festival", Watched)
    monkeypatch.setattr(aligned, "speak_flite", fail)
    with pytest.raises(TrainingError, match="flite"):
        render_speech(0, 2, 1.0, (installed_voices()[0], "rms"))
    assert [spoken._process.poll() is not None for spoken in started] == [True]


def test_every_festival_phone_has_a_name() -> None:
    for _, language in festival.VOICES.values():
        assert set(language.phones.values()) <= set(PHONES)
        assert language.made_up(np.random.default_rng(0)).split() or not language.onsets


@pytest.mark.skipif(shutil.which("fluidsynth") is None, reason="fluidsynth is not installed")
def test_piano_sounds_the_notes_it_is_labelled_with() -> None:
    clips = render_piano(0, 3, 4.0, programs=(0,))
    assert clips.has_notes.all() and (clips.phones == -1).all()
    begins = np.diff(clips.notes.astype(int), axis=1, prepend=0) == 1
    near = clips.strikes | np.roll(
        clips.strikes, 1, axis=1
    )  # a note counts from the first center it sounds at
    assert begins.sum() > 20 and not (begins & ~near).any()
    heard = 0
    for row in range(3):
        chord = clips.notes[row, 10:]
        frame = 10 + int(chord.any(-1).argmax())  # late enough for a window around it
        window = clips.waveform[row, 640 * frame : 640 * frame + 4096] * np.hanning(4096)
        spectrum = np.abs(np.fft.rfft(window))
        loudest = 16_000 / 4096 * int(spectrum[5:].argmax() + 5)
        key = round(69 + 12 * np.log2(loudest / 440))
        labelled = np.flatnonzero(clips.notes[row, frame : frame + 6].any(0)) + LOWEST_KEY
        heard += any((key - note) in (0, 12, 19, 24) for note in labelled)  # it or one of its overtones
    assert heard == 3
