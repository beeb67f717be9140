"""The whole way in small: recordings -> every part trained -> a bundle -> a continuation."""

from __future__ import annotations

import csv
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from model.bundle import OPTIONAL_PARTS, PARTS, load_bundle, read_manifest
from model.training.data import MANIFEST_COLUMNS
from model.training.frozen import load_part
from service.cli import main
from tests.conftest import chord


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    """Twelve short recordings of chords at different speeds, in three splits."""
    folder = tmp_path / "corpus"
    folder.mkdir()
    rows = []
    for i in range(12):
        split = {0: "valid", 1: "test"}.get(i, "train")
        samples = chord(6.0, 12_000 + 700 * i)  # written at another rate: higher or lower, faster or slower
        soundfile.write(folder / f"{i}.wav", samples, 16_000)
        seconds = len(samples) / 16_000
        rows.append((f"{i}.wav", "piano", f"s{i}", split, seconds, "CC0-1.0", "made for this test"))
    with open(folder / "manifest.csv", "w", newline="") as file:
        csv.writer(file).writerows([MANIFEST_COLUMNS, *rows])
    return folder


def test_from_recordings_to_a_continuation(
    corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run, bundle, out = tmp_path / "run", tmp_path / "bundle", tmp_path / "out.wav"
    train = [
        "train",
        "all",
        "--preset",
        "tiny",
        "--data",
        f"{corpus}=2",
        "--out",
        str(run),
        "--minutes",
        "0.02",
    ]
    assert main(train) in (0, 1)  # 1: a model of a few seconds need not be good
    verdicts = capsys.readouterr().out
    assert all(f"{part}: " in verdicts for part in (*PARTS, *OPTIONAL_PARTS))

    (tmp_path / "card.md").write_text("# A test\n")
    make = ["bundle", "make", str(run), str(bundle), "--preset", "tiny", "--data", str(corpus)]
    make += ["--temperatures", "0.9", "0.9,0.8,0.7,0.6", "0.5"]
    assert main([*make, "--card", str(tmp_path / "card.md")]) == 0
    assert read_manifest(bundle).info.temperatures == (0.9, (0.9, 0.8, 0.7, 0.6), 0.5)
    training = read_manifest(bundle).info.training
    assert [row["licence"] for row in training["data"]] == ["CC0-1.0"]
    assert set(training["reports"]) == {*PARTS, *OPTIONAL_PARTS}

    clip = corpus / "1.wav"
    assert main(["continue", str(clip), "-o", str(out), "--bundle", str(bundle), "--seconds", "1"]) == 0
    prompt, _ = soundfile.read(clip, dtype="float32")
    wave, _ = soundfile.read(out, dtype="float32")
    assert len(wave) == len(prompt) + 16_000
    assert np.array_equal(wave[: len(prompt)], prompt)

    again, second = tmp_path / "again", tmp_path / "second"
    assert main(["bundle", "unpack", str(again), str(bundle)]) == 0
    go_on = ["train", "coarse", "--preset", "tiny", "--data", str(corpus), "--minutes", "0.01"]
    assert main([*go_on, "--from", str(again), "--out", str(again)]) in (0, 1)
    make = [
        "bundle",
        "make",
        str(again),
        str(second),
        "--preset",
        "tiny",
        "--card",
        str(tmp_path / "card.md"),
    ]
    assert main(make) == 0
    ours, theirs = load_bundle(second), load_bundle(bundle)
    for part in set(ours.parts) - {"coarse"}:  # also in 8 bits nothing is lost on the way
        for name, weight in ours.parts[part].state_dict().items():
            assert torch.equal(weight, theirs.parts[part].state_dict()[name]), f"{part}: {name}"
    assert main(["bundle", "unpack", str(again), str(bundle)]) == 2  # never over a run

    third = tmp_path / "third"  # other tokens, and a stage that knew the old ones
    for part in ("tokenizer", "semantic"):
        go_on = ["train", part, "--preset", "tiny", "--data", str(corpus), "--minutes", "0.01"]
        assert main([*go_on, "--from", str(again), "--out", str(third)]) in (0, 1)
    old, new = load_part(again, "tokenizer").state_dict(), load_part(third, "tokenizer").state_dict()
    assert not torch.equal(old["centroids"], new["centroids"])
    name = "layers.0.attention.qkv.weight"
    assert (new[name] - old[name]).norm() < 0.5 * old[name].norm()

    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    command += ["-m", "service.cli", "train", "detector", "--preset", "tiny", "--data", str(corpus)]
    done = subprocess.run(
        [*command, "--from", str(again), "--out", str(again), "--minutes", "0.02"],
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert "detector: AUC against recordings" in done.stdout, done.stderr
    assert load_part(again, "detector").config.operating_points
