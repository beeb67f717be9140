"""Scores, exercises, players, instruments and rooms."""

from __future__ import annotations

import shutil
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import mido
import numpy as np
import pytest

from model.errors import AudioError
from model.training.corpus.exercises import FORMS, KEY_NAMES, MODES, draw_exercise
from model.training.corpus.instruments import SampledPiano, SoundfontPiano
from model.training.corpus.performance import Performance, PlayedNote, Player, draw_player, perform
from model.training.corpus.piano import PianoClip, find_pieces, plan_piano
from model.training.corpus.room import record, room_response
from model.training.corpus.score import Note, Score, make_score, read_score
from tests.model.corpus.sounds import tone, write_samples

SOUNDFONT = Path("/usr/share/sounds/sf2/TimGM6mb.sf2")
EXPERT = Player(skill=1.0, expression=0.8, loudness=66.0, articulation=0.95, pedal="harmony", phrase_bars=4)
MACHINE = Player(skill=1.0, expression=0.0, loudness=66.0, articulation=0.95, pedal="none", phrase_bars=4)
BEGINNER = Player(skill=0.0, expression=0.1, loudness=60.0, articulation=0.8, pedal="none", phrase_bars=2)


def scale(bars: int = 16, tempo: float = 100.0) -> Score:
    notes = [Note(float(beat), 1.0, 60 + beat % 12, 0) for beat in range(4 * bars)]
    notes += [Note(4.0 * bar, 4.0, 36 + bar % 5, 1) for bar in range(bars)]
    return make_score(notes, tempo=tempo, beats_per_bar=4.0)


def write_midi(path: Path, tempo: float = 90.0) -> Path:
    """Eight quarter notes in 3/4, hands on two tracks."""
    right = mido.MidiTrack([mido.MetaMessage("set_tempo", tempo=mido.bpm2tempo(tempo))])
    right.append(mido.MetaMessage("time_signature", numerator=3, denominator=4))
    left = mido.MidiTrack()
    for number in range(8):
        right.append(mido.Message("note_on", note=72 + number, velocity=90))
        right.append(mido.Message("note_on", note=72 + number, velocity=0, time=480))
        left.append(mido.Message("note_on", note=48, velocity=70))
        left.append(mido.Message("note_off", note=48, time=480))
    file = mido.MidiFile(ticks_per_beat=480)
    file.tracks += [right, left]
    file.save(path)
    return path


def test_a_midi_file_is_read_as_printed(tmp_path: Path) -> None:
    score = read_score(write_midi(tmp_path / "piece.mid"))
    assert len(score.notes) == 16 and score.beats == 8.0
    assert score.bars == (0.0, 3.0, 6.0)
    assert score.seconds_at(3.0) == pytest.approx(2.0, abs=1e-4)
    assert {note.pitch: note.hand for note in score.notes if note.pitch in (48, 72)} == {48: 1, 72: 0}
    later = score.from_beat(3.0)
    assert later.notes[0].onset == 0.0 and later.bars == (0.0, 3.0) and len(later.notes) == 10


@pytest.mark.parametrize(
    "content", [b"", b"not a midi file", b"MThd\x00\x00\x00\x06\x00\x00\x00\x00\x01\xe0"]
)
def test_a_file_that_is_no_score_is_named(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "bad.mid").write_bytes(content)
    with pytest.raises(AudioError, match=r"bad\.mid"):
        read_score(tmp_path / "bad.mid")


@pytest.mark.parametrize("form", FORMS)
def test_every_exercise_can_be_played(form: str) -> None:
    for seed in range(200):
        name, score = draw_exercise(np.random.default_rng(seed))
        if name.startswith(form):
            assert len(score.notes) > 8
            assert all(21 <= note.pitch <= 108 and note.duration > 0.0 for note in score.notes)
            assert score.bars[0] == 0.0
            return
    pytest.fail(f"no {form} in 200 draws")


def test_a_scale_keeps_to_its_key() -> None:
    checked = 0
    for seed in range(150):
        name, score = draw_exercise(np.random.default_rng(seed))
        if name.startswith("scale in "):
            tonic, mode = next(
                (key, mode)
                for key in sorted(KEY_NAMES, key=len, reverse=True)
                for mode in MODES
                if name == f"scale in {key} {mode}"
            )
            allowed = {(KEY_NAMES.index(tonic) + step) % 12 for step in MODES[mode]}
            assert {note.pitch % 12 for note in score.notes} == allowed
            checked += 1
    assert checked > 5


def test_a_performance_is_not_the_score() -> None:
    score = scale()
    performance = perform(score, EXPERT, np.random.default_rng(1))
    assert sorted(note.pitch for note in performance.notes) == sorted(note.pitch for note in score.notes)
    beats = np.diff([note.onset for note in performance.notes if note.pitch >= 60])
    assert 0.01 < beats.std() / beats.mean() < 0.35  # tempo lives, but is one tempo
    assert np.std([note.velocity for note in performance.notes]) > 4.0
    assert all(1 <= note.velocity <= 127 for note in performance.notes)


def test_players_differ_in_evenness_and_mistakes() -> None:
    score = scale()
    wrong = {}
    unevenness = {}
    for name, player in (("machine", MACHINE), ("beginner", BEGINNER)):
        played = [perform(score, player, np.random.default_rng(seed)) for seed in range(10)]
        pitches = sorted(note.pitch for note in score.notes)
        wrong[name] = sum(sorted(note.pitch for note in one.notes) != pitches for one in played)
        steps = [np.diff([note.onset for note in one.notes if note.pitch >= 60]) for one in played]
        unevenness[name] = float(np.median([step.std() / step.mean() for step in steps]))
    assert wrong["machine"] == 0 and wrong["beginner"] >= 8
    assert unevenness["beginner"] > 1.5 * unevenness["machine"]


def test_fingers_limit_the_tempo() -> None:
    hasty = scale(tempo=300.0)
    durations = [perform(hasty, player, np.random.default_rng(2)).seconds for player in (BEGINNER, EXPERT)]
    assert durations[0] > 1.5 * durations[1]


def test_the_pedal_goes_down_after_it_went_up() -> None:
    performance = perform(scale(), EXPERT, np.random.default_rng(3))
    times = [time for time, _ in performance.pedal]
    assert times == sorted(times) and len(times) >= 16
    assert [value > 0 for _, value in performance.pedal] == [False, True] * (len(times) // 2)
    assert perform(scale(), replace(EXPERT, pedal="none"), np.random.default_rng(3)).pedal == ()


def test_players_are_drawn_from_beginner_to_expert() -> None:
    skills = [draw_player(np.random.default_rng(seed)).skill for seed in range(200)]
    assert min(skills) < 0.2 and max(skills) > 0.9


def test_samples_play_at_the_pitch_asked_for(tmp_path: Path) -> None:
    piano = SampledPiano(write_samples(tmp_path / "samples"), "CC0 1.0")
    for pitch in (50, 60, 66, 76):
        sound = piano.play(Performance((PlayedNote(0.1, 1.5, pitch, 80),), ()), 2.0)
        assert len(sound) == 32_000 and not sound[:1500].any()
        spectrum = np.abs(np.fft.rfft(sound[1600:], 1 << 17))
        heard = spectrum.argmax() * 16_000 / (1 << 17)
        assert heard == pytest.approx(440.0 * 2.0 ** ((pitch - 69) / 12.0), rel=0.003)


def test_the_pedal_lets_samples_ring(tmp_path: Path) -> None:
    piano = SampledPiano(write_samples(tmp_path / "samples"), "CC0 1.0")
    note = (PlayedNote(0.0, 0.2, 60, 80),)
    dry, held = (piano.play(Performance(note, pedal), 1.5) for pedal in ((), ((0.1, 127), (1.2, 0))))
    at_one_second = slice(15_000, 17_000)
    assert np.abs(held[at_one_second]).max() > 100 * np.abs(dry[at_one_second]).max()


def test_louder_keys_are_louder(tmp_path: Path) -> None:
    piano = SampledPiano(write_samples(tmp_path / "samples"), "CC0 1.0")
    soft, loud = (piano.play(Performance((PlayedNote(0.0, 1.0, 60, v),), ()), 1.0).std() for v in (40, 110))
    assert loud > 3 * soft


@pytest.mark.skipif(shutil.which("fluidsynth") is None, reason="fluidsynth is not installed")
@pytest.mark.skipif(not SOUNDFONT.is_file(), reason="the soundfont TimGM6mb is not installed")
def test_fluidsynth_plays_the_notes_when_they_are_due() -> None:
    performance = Performance(tuple(PlayedNote(0.5 + number, 0.4, 60, 90) for number in range(2)), ())
    sound = SoundfontPiano(SOUNDFONT, "grand", "GPL-2").play(performance, 2.5)
    loud = np.abs(sound[: 2 * 16_000]).reshape(-1, 1600).max(axis=1)  # every 0.1 s
    assert loud[:5].max() < 0.05 * loud.max()
    assert loud[5:7].max() > 0.5 * loud.max() and loud[15:17].max() > 0.5 * loud.max()
    assert np.abs(sound).max() < 1.0


def test_a_recording_is_neither_quiet_nor_clipped() -> None:
    for seed in range(12):
        heard = record(tone(2.0), np.random.default_rng(seed))
        assert heard.shape == (32_000,) and heard.dtype == np.float32
        assert np.abs(heard).max() <= 0.97001
        assert -28.5 < 10 * np.log10(np.mean(heard.astype(np.float64) ** 2)) < -17.5


def test_a_room_decays() -> None:
    for seed in range(10):
        response = room_response(np.random.default_rng(seed))
        half = len(response) // 2
        assert response[0] == 1.0 == np.abs(response).max()
        assert np.sum(response[half:] ** 2) < 0.1 * np.sum(response[1:half] ** 2)


def test_pieces_take_turns_and_splits_stay_apart(tmp_path: Path) -> None:
    rows = ["path,speaker,split,licence"]
    for number in range(9):
        write_midi(tmp_path / f"{number}.mid", tempo=80.0 + number)
        split = ("train", "train", "train", "train", "train", "valid", "valid", "test", "test")[number]
        rows.append(f"{number}.mid,piece:{number},{split},CC0 1.0")
    (tmp_path / "manifest.csv").write_text("\n".join(rows) + "\n")
    piano = SampledPiano(tmp_path, "CC0 1.0")
    clips = plan_piano(
        find_pieces(tmp_path),
        [piano],
        {"train": 0.1, "valid": 0.03, "test": 0.03},
        seed=1,
        exercise_share=0.0,
    )
    played: dict[str, list[str]] = {}
    for clip in clips:
        assert clip.piece is not None and clip.piece.split == clip.split
        played.setdefault(clip.split, []).append(clip.piece.speaker)
    assert {split: len(set(own)) for split, own in played.items()} == {"train": 5, "valid": 2, "test": 2}
    for number in range(0, len(played["train"]) - 5, 5):
        assert len(set(played["train"][number : number + 5])) == 5


def test_a_clip_of_a_piece_and_an_exercise(tmp_path: Path) -> None:
    piano = SampledPiano(write_samples(tmp_path / "samples"), "CC0 1.0")
    write_midi(tmp_path / "piece.mid")
    (piece,) = find_pieces(tmp_path)
    for task in (
        PianoClip("piano/train/0", "train", piece, (piano,)),
        PianoClip("piano/train/1", "train", None, (piano,)),
    ):
        (clip,), (again,) = task.make(np.random.default_rng(4)), task.make(np.random.default_rng(4))
        (other,) = task.make(np.random.default_rng(5))
        assert np.array_equal(clip.waveform, again.waveform)
        assert not np.array_equal(clip.waveform[:16_000], other.waveform[:16_000])
        assert len(clip.waveform) <= 30 * 16_000
        assert clip.kind == "piano" and "instrument CC0 1.0" in clip.licence


def test_bar_lines_follow_each_other() -> None:
    score = scale(bars=3)
    assert [later - earlier for earlier, later in pairwise(score.bars)] == [4.0, 4.0]
