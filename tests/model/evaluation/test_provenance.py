"""`audiolm evaluate provenance` on a tiny bundle and a tiny corpus, and the parts that make its numbers."""

from __future__ import annotations

import csv
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from model.bundle import load_bundle
from model.distortions.amplitude import Gain
from model.errors import ConfigError, TrainingError
from model.evaluation.clips import read_recordings
from model.evaluation.command import main
from model.evaluation.marking import imperceptibility, signal_to_mark
from model.evaluation.provenance import Judges, battery, threshold_at
from model.evaluation.provenance_material import Sounds, pieces
from model.training.data import MANIFEST_COLUMNS
from tests.model.watermark.sounds import KEY, voice


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two test speakers and one to mix in, 12 s each."""
    folder = tmp_path_factory.mktemp("corpus")
    rows = []
    for number, split in enumerate(("test", "test", "valid")):
        soundfile.write(folder / f"{number}.flac", voice(12.0, seed=number), 16_000)
        rows.append((f"{number}.flac", "speech", f"speaker{number}", split, "12.0", "CC0 1.0", "made here"))
    with open(folder / "manifest.csv", "w", newline="") as file:
        csv.writer(file).writerows([MANIFEST_COLUMNS, *rows])
    return folder


@pytest.fixture(scope="module")
def sounds() -> Sounds:
    return Sounds(
        made=[voice(3.0, seed=20 + i) for i in range(3)],
        prompts=[],
        recorded=[voice(3.0, seed=30 + i) for i in range(3)],
        speech=[],
        music=[],
    )


def test_a_threshold_lets_no_more_pass_than_it_says() -> None:
    negatives = np.arange(100) / 100
    assert (negatives > threshold_at(negatives, 0.05)).sum() == 5
    assert (negatives > threshold_at(negatives, 1e-3)).sum() == 0
    assert math.isnan(threshold_at(negatives[:0], 0.01))


def test_the_watermark_is_judged_on_ours_and_on_theirs(sounds: Sounds) -> None:
    steps: list[str] = []
    results = battery(sounds, {"quieter": Gain(-20)}, Judges(KEY, None), [2.0], 0, steps.append)
    for row in (results["2"]["clean"]["watermark"], results["2"]["quieter"]["watermark"]):
        assert row["found"] == row["payload_right"] == row["tpr"]["0.001"] == row["auc"] == 1.0
        assert (
            row["falsely_found"]
            == row["payload_wrong"]
            == row["false_positives"]["0.001"]
            == row["eer"]
            == 0.0
        )
    assert "classifier" not in results["2"]["clean"]
    assert steps == ["clean, 2 s", "quieter, 2 s"]


def test_the_classifier_is_judged_where_there_is_one(sounds: Sounds, tiny_bundle: Path) -> None:
    detector = load_bundle(tiny_bundle).parts["detector"]
    results = battery(sounds, {}, Judges(KEY, detector), [1.0], 0, lambda _: None)
    row = results["1"]["clean"]["classifier"]
    assert row["clips"] == 3
    assert 0 <= row["auc"] <= 1
    assert row["false_positives"]["0.01"] == 0


def test_what_is_measured_does_not_depend_on_what_else_is(sounds: Sounds) -> None:
    judges = Judges(KEY, None)
    alone = battery(sounds, {"b": Gain(-6)}, judges, [1.0], 7, lambda _: None)
    among = battery(sounds, {"a": Gain(6), "b": Gain(-6)}, judges, [1.0], 7, lambda _: None)
    assert among["1"]["b"] == alone["1"]["b"]


def test_marking_is_measured_against_the_unmarked(sounds: Sounds) -> None:
    pytest.importorskip("pesq")
    sound = sounds.made[0]
    assert signal_to_mark(sound, 0.9 * sound) == pytest.approx(20.0, abs=0.01)
    found = imperceptibility(sounds.made, KEY)
    assert 15 < found["snr"]["lowest"] <= found["snr"]["mean"] < 60
    assert found["pesq"]["clips"] == 3
    assert 4.0 < found["pesq"]["lowest"] <= found["pesq"]["mean"] < 4.65


def test_pieces_come_from_all_recordings_in_turn(corpus: Path) -> None:
    recordings = read_recordings(corpus)
    found = list(pieces(recordings, 5, 5.0, seed=0))
    assert [len(piece) for piece in found] == [80_000] * 5
    assert len({piece.tobytes() for piece in found}) == 5
    assert len(list(pieces(recordings, 99, 5.0, seed=0))) == 6


def run(tiny_bundle: Path, corpus: Path, *more: str) -> int:
    given = ["--bundle", str(tiny_bundle), "--data", str(corpus), "--clips", "2"]
    return main(["provenance", *given, "--durations", "1", "--negatives", "3", *more])


def test_the_command_prints_tables_and_writes_every_number(
    tiny_bundle: Path, corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    report, made = tmp_path / "report.json", tmp_path / "made.npz"
    more = ("--attacks", "gain_-6dB", "--out", str(report), "--generated", str(made))
    assert run(tiny_bundle, corpus, *more) == 0
    first = capsys.readouterr().out
    for title in (
        "Watermark on clips of 1 s",
        "Classifier on clips of 1 s",
        "Marked against",
        "Which seconds are ours",
    ):
        assert title in first
    results: dict[str, Any] = json.loads(report.read_text())
    assert set(results["battery"]["1"]) == {"clean", "gain_-6dB"}
    assert results["false_positives"]["clips"] == 3
    assert results["keys"]["wrong key"]["clips"] == 2
    assert "3 s recorded + 5 s ours, clean" in results["segments"]
    assert np.load(made)["made"].shape == (2, 80_000)


@pytest.mark.parametrize(
    ("more", "told"),
    [
        (("--attacks", "gain_-6dB,hammer"), "hammer"),
        (("--durations", "0.1"), "0.1"),
        (("--durations", "long"), "long"),
        (("--negatives", "-1"), "-1"),
    ],
)
def test_arguments_that_cannot_be_used_are_named(
    tiny_bundle: Path, corpus: Path, more: tuple[str, ...], told: str
) -> None:
    with pytest.raises(ConfigError, match=told):
        run(tiny_bundle, corpus, *more)


def test_sound_that_another_seed_made_is_not_used(tiny_bundle: Path, corpus: Path, tmp_path: Path) -> None:
    made = tmp_path / "made.npz"
    np.savez(made, made=np.zeros((2, 80_000), np.float32), origin="another 1 seed 5")
    with pytest.raises(ConfigError, match="another 1 seed 5"):
        run(tiny_bundle, corpus, "--attacks", "none", "--generated", str(made))


def test_a_corpus_with_too_few_recordings_is_named(tiny_bundle: Path, corpus: Path) -> None:
    with pytest.raises(TrainingError, match="2 test recordings"):
        run(tiny_bundle, corpus, "--clips", "3")
