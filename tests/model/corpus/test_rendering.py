"""A corpus folder: the same from any number of workers, whole after any interruption, extended by more hours."""

from __future__ import annotations

import csv
import hashlib
import signal
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import soundfile

from model.errors import AudioError, AudioLMError, TrainingError
from model.training.corpus.command import main
from model.training.corpus.recordings import find_recordings
from model.training.corpus.rendering import JOURNAL, Clip, render
from tests.model.corpus.sounds import tone, write_recordings, write_samples


@dataclass(frozen=True)
class Noise:
    """A task that draws; `log` collects the names of the tasks that ran."""

    name: str
    log: Path | None = None

    def make(self, rng: np.random.Generator) -> list[Clip]:
        if self.log:
            with open(self.log, "a") as file:
                file.write(f"{self.name}\n")
        waveform = rng.uniform(-0.5, 0.5, 1600).astype(np.float32)
        return [Clip(waveform, self.name, "noise", self.name, "train", "CC0 1.0", "test")]


@dataclass(frozen=True)
class Failing:
    name: str
    error: type[BaseException]

    def make(self, rng: np.random.Generator) -> list[Clip]:
        raise self.error(f"{self.name} cannot be read")


def contents(folder: Path) -> dict[str, str]:
    """Digest of every file except the journal, whose order is that of finishing."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.rglob("*")
        if path.is_file() and path.name != JOURNAL
    }


def rows(folder: Path) -> list[dict[str, str]]:
    with open(folder / "manifest.csv", newline="") as file:
        return list(csv.DictReader(file))


def test_one_and_two_workers_make_the_same_files(tmp_path: Path) -> None:
    recordings = find_recordings(write_recordings(tmp_path / "data", 6), "speech")
    for workers in (1, 2):
        render(recordings, tmp_path / str(workers), seed=1, suffix="flac", workers=workers, progress=False)
    assert len(contents(tmp_path / "1")) == 7
    assert contents(tmp_path / "1") == contents(tmp_path / "2")


def test_the_seed_and_the_name_alone_decide_what_is_drawn(tmp_path: Path) -> None:
    def digests(names: Sequence[str], seed: int, folder: str) -> dict[str, str]:
        render(
            [Noise(n) for n in names], tmp_path / folder, seed=seed, suffix="flac", workers=1, progress=False
        )
        return contents(tmp_path / folder)

    first, reordered, other = digests("abc", 1, "x"), digests("cba", 1, "y"), digests("abc", 2, "z")
    assert first["a.flac"] == reordered["a.flac"]
    assert first["a.flac"] != first["b.flac"]
    assert first["a.flac"] != other["a.flac"]


def test_an_interrupted_run_goes_on_where_it_stopped(tmp_path: Path) -> None:
    out, log = tmp_path / "out", tmp_path / "log"
    tasks = [Noise(name, log) for name in "abcd"]
    with pytest.raises(KeyboardInterrupt):
        stopped = [*tasks[:2], Failing("x", KeyboardInterrupt), *tasks[2:]]
        render(stopped, out, seed=1, suffix="flac", workers=1, progress=False)
    (out / "c.flac.partial").write_bytes(b"half a file")
    with open(out / JOURNAL, "a") as journal:
        journal.write('{"name": "c", "finger')  # the line a killed process was writing
    render(tasks, out, seed=1, suffix="flac", workers=1, progress=False)
    render(tasks, tmp_path / "whole", seed=1, suffix="flac", workers=1, progress=False)
    assert log.read_text().split() == [*"abcd", *"abcd"]
    assert contents(out) == contents(tmp_path / "whole")


def test_a_missing_file_or_another_seed_is_rendered_again(tmp_path: Path) -> None:
    log = tmp_path / "log"
    for seed, lost in ((1, None), (1, "b.flac"), (2, None)):
        if lost:
            (tmp_path / "out" / lost).unlink()
        render(
            [Noise("a", log), Noise("b", log)],
            tmp_path / "out",
            seed=seed,
            suffix="flac",
            workers=1,
            progress=False,
        )
    assert log.read_text().split() == ["a", "b", "b", "a", "b"]


def test_a_task_whose_input_is_bad_is_skipped_and_named(tmp_path: Path) -> None:
    tasks = [Noise("a"), Failing("bad", AudioError)]
    outcomes = render(tasks, tmp_path, seed=1, suffix="flac", workers=1, progress=False)
    assert [outcome.skipped for outcome in outcomes] == ["", "bad cannot be read"]
    assert [row["path"] for row in rows(tmp_path)] == ["a.flac"]


KILLED_HALFWAY = """
import os, signal, threading, time
from pathlib import Path
from model.training.corpus.command import main

def kill():
    journal = Path({journal!r})
    while not journal.is_file() or journal.stat().st_size < 2000:
        time.sleep(0.001)
    os.kill(os.getpid(), signal.SIGKILL)

threading.Thread(target=kill, daemon=True).start()
main({command!r})
"""


def test_a_killed_process_leaves_whole_files_only(tmp_path: Path) -> None:
    data = write_recordings(tmp_path / "data", 150)
    out = tmp_path / "out"
    command = ["speech", "--recordings", str(data), "--out", str(out), "--workers", "1", "--quiet"]
    code = KILLED_HALFWAY.format(journal=str(out / JOURNAL), command=command)
    process = subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parents[3], timeout=200)
    assert process.returncode == -signal.SIGKILL
    assert 0 < len(list(out.rglob("*.flac"))) < 150
    for file in out.rglob("*.flac"):
        assert soundfile.info(file).frames == 24_000
    main(command)
    assert len(rows(out)) == 150
    assert not list(out.rglob("*.partial"))


def test_more_hours_extend_a_corpus_without_touching_it(tmp_path: Path) -> None:
    samples = write_samples(tmp_path / "samples")
    before: dict[str, str] = {}
    for hours in ("0.01", "0.02"):
        options = [
            "--no-soundfont",
            "--samples",
            f"{samples}=CC0 1.0",
            "--hours",
            hours,
            "--workers",
            "1",
            "--quiet",
        ]
        main(["piano", "--out", str(tmp_path / "out"), *options])
        after = contents(tmp_path / "out")
        assert all(after[path] == digest for path, digest in before.items() if path.endswith(".flac"))
        assert len(after) > len(before)
        before = after


def test_ogg_is_smaller_and_sounds_the_same(tmp_path: Path) -> None:
    recordings = find_recordings(write_recordings(tmp_path / "data", 1), "speech")
    render(recordings, tmp_path / "out", seed=1, suffix="ogg", workers=1, progress=False)
    (row,) = rows(tmp_path / "out")
    assert row["path"].endswith(".ogg") and float(row["seconds"]) == 1.5
    heard, rate = soundfile.read(tmp_path / "out" / row["path"], dtype="float32")
    assert rate == 16_000
    assert np.std(heard - tone(1.5, 200.0)) < 0.1 * np.std(heard)


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["speech"], "--recordings"),
        (["speech", "--recordings", "nowhere"], "nowhere"),
        (["speech", "--sentences", "nowhere.txt"], "nowhere.txt"),
        (["piano", "--scores", "nowhere"], "nowhere"),
        (["piano", "--no-soundfont"], "no instrument"),
        (["piano", "--soundfont", "nowhere.sf2"], "nowhere.sf2"),
        (["piano", "--hours", "-1"], "-1"),
    ],
)
def test_bad_arguments_are_named(arguments: list[str], named: str, tmp_path: Path) -> None:
    with pytest.raises(AudioLMError, match=named):
        main([*arguments, "--out", str(tmp_path / "out")])
    assert not (tmp_path / "out").exists()


def test_no_hours_is_an_error(tmp_path: Path) -> None:
    samples = write_samples(tmp_path / "samples")
    with pytest.raises(TrainingError, match="nothing was made"):
        main(
            [
                "piano",
                "--no-soundfont",
                "--samples",
                str(samples),
                "--hours",
                "0",
                "--out",
                str(tmp_path / "out"),
                "--quiet",
            ]
        )
