"""`audiolm evaluate` on a tiny bundle and a tiny corpus."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import soundfile

from model.errors import ConfigError, TrainingError
from model.evaluation.clips import choose, load, read_recordings
from model.evaluation.command import main
from model.training.data import MANIFEST_COLUMNS
from tests.model.evaluation.signals import chord, speech_like


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two speakers with two clips each in both splits, one text-to-speech voice, one piece of music."""
    folder = tmp_path_factory.mktemp("corpus")
    rows = []

    def add(
        name: str, kind: str, speaker: str, split: str, sound: np.ndarray, source: str = "made here"
    ) -> None:
        soundfile.write(folder / name, sound, 16_000)
        rows.append((name, kind, speaker, split, str(len(sound) / 16_000), "CC0 1.0", source))

    for split, number in (("train", 0), ("test", 10)):
        for speaker in range(2):
            for take in range(2):
                seed = number + 2 * speaker + take
                sound = np.concatenate([speech_like(seed + 100 * part) for part in range(5)])
                add(f"{seed}.flac", "speech", f"{split}{speaker}", split, sound)
    add("tts.flac", "speech", "robot", "test", speech_like(50), "tts espeak-ng")
    add("piece.flac", "piano", "piece:a", "test", np.tile(chord([60, 64, 67]), 5))
    with open(folder / "manifest.csv", "w", newline="") as file:
        csv.writer(file).writerows([MANIFEST_COLUMNS, *rows])
    return folder


def test_speakers_take_turns_and_robots_stay_out(corpus: Path) -> None:
    recordings = read_recordings(corpus)
    chosen = choose(recordings, kind="speech", split="test", count=3, rng=np.random.default_rng(0))
    assert {recording.speaker for recording in chosen[:2]} == {"test0", "test1"}
    everything = choose(recordings, kind="speech", split="test", count=99, rng=np.random.default_rng(0))
    assert len(everything) == 4
    again = choose(recordings, kind="speech", split="test", count=3, rng=np.random.default_rng(0))
    assert again == chosen


def test_only_what_was_asked_for_is_decoded(corpus: Path) -> None:
    recording = read_recordings(corpus)[0]
    whole = load(recording)
    np.testing.assert_array_equal(load(recording, start_seconds=1.0, max_seconds=0.5), whole[16_000:24_000])


def test_continuation_section_end_to_end(
    corpus: Path, tiny_bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page, numbers = tmp_path / "report.html", tmp_path / "report.json"
    argv = ["--bundle", str(tiny_bundle), "--data", str(corpus), "--clips", "2", "--takes", "2"]
    argv += ["--only", "continuation"]
    assert main([*argv, "--html", str(page), "--json", str(numbers)]) == 0
    printed = capsys.readouterr().out
    assert "| continuation in the prompt's voice" in printed
    assert "Bundle: tiny 0" in printed
    results = json.loads(numbers.read_text())["continuation"]
    assert results["speech"]["count"] == 2
    assert results["speech"]["voice"]["chance"] == 0.5
    assert results["piano"]["kept"]["key"]["continuation"]["count"] == 1
    assert page.read_text().count("<audio") == 2 * 3


@pytest.mark.parametrize(
    ("extra", "error", "culprit"),
    [
        (["--only", "codec,quality"], ConfigError, "quality"),
        (["--clips", "0"], ConfigError, "--clips"),
        (["--takes", "0"], ConfigError, "--takes"),
        (["--data", "nowhere"], TrainingError, "nowhere"),
    ],
)
def test_bad_arguments_name_themselves(
    corpus: Path, tiny_bundle: Path, extra: list[str], error: type[Exception], culprit: str
) -> None:
    with pytest.raises(error, match=culprit):
        main(["--bundle", str(tiny_bundle), "--data", str(corpus), *extra])
