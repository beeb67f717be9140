"""Running a corpus: many small tasks, several processes, resumable at any moment.

A task makes a few clips from nothing but itself and a random generator that the seed and the task's name
determine. Finished tasks are noted in a journal (one JSON line each, after their files are in place), so a
run that was killed goes on where it stopped, and a longer run extends a shorter one. The journal notes a
fingerprint of the task; a task whose settings changed is done again. Knows nothing about piano or speech.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import multiprocessing
import signal
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from tqdm import tqdm

from model.errors import AudioLMError
from model.training.corpus.manifest import Row, write_manifest
from model.training.corpus.waveform import SAMPLE_RATE, Waveform, write_waveform

JOURNAL = "journal.jsonl"
MANIFEST_EVERY_SECONDS = 60.0  # a training may start on what is there


@dataclass(frozen=True)
class Clip:
    waveform: Waveform  # [N] at 16 kHz
    name: str  # path in the corpus folder without suffix, unique
    kind: str
    speaker: str
    split: str
    licence: str
    source: str


class Task(Protocol):
    """A frozen dataclass that can be pickled; its repr is its fingerprint."""

    @property
    def name(self) -> str: ...

    def make(self, rng: np.random.Generator) -> Sequence[Clip]:
        """The task's clips. Raises AudioLMError if its input cannot be used: the task is skipped."""
        ...


@dataclass(frozen=True)
class Outcome:
    name: str
    fingerprint: str
    rows: tuple[Row, ...]
    skipped: str = ""  # why there are no rows


def task_rng(seed: int, name: str) -> np.random.Generator:
    digest = hashlib.sha256(f"{seed}:{name}".encode()).digest()
    return np.random.default_rng(int.from_bytes(digest[:16], "little"))


def run_task(task: Task, folder: Path, seed: int, suffix: str) -> Outcome:
    """Make the clips of one task and put their files in place."""
    fingerprint = fingerprint_of(task, seed, suffix)
    try:
        clips = task.make(task_rng(seed, task.name))
    except AudioLMError as error:
        return Outcome(task.name, fingerprint, (), skipped=str(error))
    rows = []
    for clip in clips:
        path = f"{clip.name}.{suffix}"
        write_waveform(folder / path, clip.waveform)
        seconds = round(len(clip.waveform) / SAMPLE_RATE, 3)
        rows.append(Row(path, clip.kind, clip.speaker, clip.split, seconds, clip.licence, clip.source))
    return Outcome(task.name, fingerprint, tuple(rows))


def fingerprint_of(task: Task, seed: int, suffix: str) -> str:
    return hashlib.sha256(f"{task!r}:{seed}:{suffix}".encode()).hexdigest()[:16]


def render(
    tasks: Sequence[Task], folder: Path, *, seed: int, suffix: str, workers: int, progress: bool = True
) -> list[Outcome]:
    """Do every task that the folder's journal does not list; write the manifest; outcomes in task order."""
    folder.mkdir(parents=True, exist_ok=True)
    for leftover in folder.rglob("*.partial"):
        leftover.unlink()
    noted = _read_journal(folder / JOURNAL)
    done: dict[str, Outcome] = {}
    todo = []
    for task in tasks:
        outcome = noted.get(task.name)
        if (
            outcome
            and outcome.fingerprint == fingerprint_of(task, seed, suffix)
            and _present(outcome, folder)
        ):
            done[task.name] = outcome
        else:
            todo.append(task)
    written = time.monotonic()
    with open(folder / JOURNAL, "a", encoding="utf-8") as journal:
        finished = _finish(todo, folder, seed, suffix, workers)
        bar = tqdm(finished, total=len(tasks), initial=len(done), unit="task", disable=not progress)
        for outcome in bar:
            done[outcome.name] = outcome
            journal.write(json.dumps(asdict(outcome)) + "\n")
            journal.flush()
            if time.monotonic() - written > MANIFEST_EVERY_SECONDS:
                write_manifest(folder, _rows(tasks, done))
                written = time.monotonic()
    write_manifest(folder, _rows(tasks, done))
    return [done[task.name] for task in tasks]


def _rows(tasks: Sequence[Task], done: dict[str, Outcome]) -> Iterator[Row]:
    for task in tasks:
        if task.name in done:
            yield from done[task.name].rows


def _finish(tasks: list[Task], folder: Path, seed: int, suffix: str, workers: int) -> Iterator[Outcome]:
    """Outcomes as they come. Few tasks are in flight, so that an interruption loses little."""
    if workers <= 1:
        for task in tasks:
            yield run_task(task, folder, seed, suffix)
        return
    waiting = iter(tasks)
    running: set[Future[Outcome]] = set()
    # Ctrl-C reaches every process of the terminal; the workers finish their task and leave the rest to us.
    ignore = (signal.SIGINT, signal.SIG_IGN)
    with ProcessPoolExecutor(workers, multiprocessing.get_context("spawn"), signal.signal, ignore) as pool:
        while True:
            for task in itertools.islice(waiting, 2 * workers - len(running)):
                running.add(pool.submit(run_task, task, folder, seed, suffix))
            if not running:
                return
            finished, running = wait(running, return_when=FIRST_COMPLETED)
            for future in finished:
                yield future.result()


def _read_journal(path: Path) -> dict[str, Outcome]:
    """The last note about each task. A line cut short by a kill counts as no note."""
    if not path.is_file():
        return {}
    text = path.read_bytes()
    if text and not text.endswith(b"\n"):
        text = text[: text.rfind(b"\n") + 1]
        path.write_bytes(text)
    noted = {}
    for line in text.decode("utf-8").splitlines():
        record = json.loads(line)
        rows = tuple(Row(**row) for row in record.pop("rows"))
        noted[record["name"]] = Outcome(**record, rows=rows)
    return noted


def _present(outcome: Outcome, folder: Path) -> bool:
    return all((folder / row.path).is_file() for row in outcome.rows)
