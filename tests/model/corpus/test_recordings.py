"""Real recordings keep what their table says."""

from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile

from model.errors import TrainingError
from model.training.corpus.recordings import at_speeds, find_recordings, split_of
from model.training.corpus.rendering import render
from tests.model.corpus.sounds import RATE, silence, tone, write_recordings


def test_split_speaker_licence_and_source_are_kept(tmp_path: Path) -> None:
    recordings = find_recordings(write_recordings(tmp_path / "data", 3), "speech")
    render(recordings, tmp_path / "out", seed=1, suffix="flac", workers=1, progress=False)
    with open(tmp_path / "out" / "manifest.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ["path", "kind", "speaker", "split", "seconds", "licence", "source"]
    assert [(row["speaker"], row["split"]) for row in rows] == [
        ("s0", "train"),
        ("s1", "valid"),
        ("s2", "test"),
    ]
    assert {(row["kind"], row["licence"], row["source"]) for row in rows} == {
        ("speech", "CC0 1.0", "somebody/speech")
    }
    for row in rows:
        info = soundfile.info(tmp_path / "out" / row["path"])
        assert (info.samplerate, info.channels) == (16_000, 1)
        assert info.duration == float(row["seconds"])


def test_training_recordings_at_another_speed_are_other_voices(tmp_path: Path) -> None:
    (tmp_path / "data" / "speaker").mkdir(parents=True)
    soundfile.write(tmp_path / "data" / "speaker" / "a.wav", tone(1.5, 200.0), RATE)
    (plain,) = find_recordings(tmp_path / "data", "speech")
    assert plain.split == "train"
    tasks = at_speeds([plain, replace(plain, split="test")], [1.25])
    assert [(task.speed, task.split) for task in tasks] == [(1.0, "train"), (1.0, "test"), (1.25, "train")]
    (clip,) = tasks[2].make(np.random.default_rng(0))
    assert (clip.speaker, clip.name) == ("speaker@1.25", "real/speaker/a@1.25_000")
    assert len(clip.waveform) == pytest.approx(1.5 / 1.25 * RATE, abs=0.1 * RATE)
    loudest = np.abs(np.fft.rfft(clip.waveform)).argmax() * RATE / len(clip.waveform)
    assert loudest == pytest.approx(250.0, abs=2.0)


def test_a_long_file_becomes_pieces_of_at_most_30_seconds(tmp_path: Path) -> None:
    (tmp_path / "speaker").mkdir()
    long = np.concatenate([part for _ in range(45) for part in (tone(1.5), silence(0.4))])  # 85 s
    soundfile.write(tmp_path / "speaker" / "long.wav", long, RATE)
    (recording,) = find_recordings(tmp_path, "speech")
    clips = recording.make(np.random.default_rng(0))
    assert all(len(clip.waveform) <= 30 * RATE for clip in clips)
    assert sum(len(clip.waveform) for clip in clips) == pytest.approx(len(long), abs=0.5 * RATE)
    assert len({clip.name for clip in clips}) == len(clips) >= 3


def test_a_folder_without_a_table_holds_out_whole_speakers(tmp_path: Path) -> None:
    for speaker in range(80):
        (tmp_path / f"speaker{speaker}").mkdir()
        for take in range(2):
            soundfile.write(tmp_path / f"speaker{speaker}" / f"{take}.wav", tone(0.1), RATE)
    recordings = find_recordings(tmp_path, "speech")
    splits: dict[str, set[str]] = {}
    for recording in recordings:
        splits.setdefault(recording.speaker, set()).add(recording.split)
    assert len(splits) == 80
    assert all(len(own) == 1 for own in splits.values())
    assert set.union(*splits.values()) == {"train", "valid", "test"}


def test_splits_of_names_have_the_shares_they_should() -> None:
    splits = [split_of(f"name{number}") for number in range(4000)]
    assert splits.count("test") == pytest.approx(200, abs=60)
    assert splits.count("valid") == pytest.approx(200, abs=60)


def test_a_table_with_an_unknown_split_is_an_error(tmp_path: Path) -> None:
    table = write_recordings(tmp_path, 1) / "manifest.csv"
    table.write_text(table.read_text().replace(",train", ",practice"))
    with pytest.raises(TrainingError, match="practice"):
        find_recordings(tmp_path, "speech")


def test_a_table_without_licences_is_an_error(tmp_path: Path) -> None:
    table = write_recordings(tmp_path, 1) / "manifest.csv"
    table.write_text(table.read_text().replace("licence", "terms"))
    with pytest.raises(TrainingError, match="licence"):
        find_recordings(tmp_path, "speech")
