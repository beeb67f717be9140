"""Token generation by others at equal width, depth, heads and number of tokens, beside ours, in the same run.

Random weights on their side. A peer makes the tokens of some seconds of sound and nothing else; ours reads a prompt of
one semantic frame, because it cannot do without, makes the tokens and decodes the sound. All rows of a batch start
together, the best case of a peer that cannot let a caller join. Contenders take turns. A peer that is not installed is
a row that says so; one that takes longer than its budget is timed once.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Any, Protocol

import torch

from model.audiolm import AudioLM
from model.engine.engine import Engine
from tests.benchmarks.peer_audiolm_pytorch import AudioLMPytorch
from tests.benchmarks.peer_transformers import Bark, MusicGen
from tests.benchmarks.systems import new_engine, run_to_end, submit
from tests.benchmarks.timing import Clock, Spread, seconds_of

PROMPT_SECONDS = 0.04
WARM_UP_SECONDS = 0.2  # of sound
OURS = "ours"


class Peer(Protocol):
    """Who makes tokens. `batches`: the batch sizes it is measured at."""

    name: str
    note: str
    batches: Sequence[int]

    def steps(self, seconds: float) -> dict[str, int]:
        """Steps per stage that `seconds` of sound take."""
        ...

    def calls(self, rows: int, seconds: float) -> dict[str, Callable[[], object]]:
        """One call per stage that makes its tokens of `seconds` of sound for `rows` callers."""
        ...


class Ours:
    """The service's engine: all stages in one, the prompt and the sound included."""

    name = OURS
    note = "the service's engine, with prompt (40 ms) and decoding"
    batches = (1, 8, 32, 64)

    def __init__(self, model: AudioLM) -> None:
        self._model = model
        self._engines: dict[int, Engine] = {}

    def steps(self, seconds: float) -> dict[str, int]:
        return {}

    def calls(self, rows: int, seconds: float) -> dict[str, Callable[[], object]]:
        if rows not in self._engines:
            self._engines[rows] = new_engine(self._model, rows, 30.0)
        engine = self._engines[rows]

        def everything() -> None:
            prompt = None
            for seed in range(rows):
                prompt = submit(engine, seconds, seed, PROMPT_SECONDS, prompt).prompt
            run_to_end(engine)

        return {"all": everything}


def measure(
    model: AudioLM,
    system: str,
    device: torch.device,
    batches: Sequence[int],
    clock: Clock,
    *,
    seconds: float,
    repeats: int,
    peer_budget_seconds: float,
) -> list[dict[str, Any]]:
    """One row per peer and batch size; ratios are of audio seconds per second, ours over theirs."""
    builders: dict[str, Callable[[], Peer]] = {
        AudioLMPytorch.name: lambda: AudioLMPytorch(model, device),
        "transformers MusicGen, bf16": lambda: MusicGen(model, device, torch.bfloat16, (1, 8, 32, 64)),
        "transformers MusicGen, fp32": lambda: MusicGen(model, device, torch.float32, (1, 8)),
        Bark.name: lambda: Bark(model, device),
    }
    head = {"system": system, "device": device.type, "seconds": seconds}
    peers: list[Peer] = [Ours(model)]
    missing: list[dict[str, Any]] = []
    with torch.random.fork_rng():
        torch.manual_seed(0)
        for name, builder in builders.items():
            try:
                peers.append(builder())
            except ImportError as error:
                missing.append({**head, "peer": name, "missing": str(error).splitlines()[0]})
        entries = []
        for rows, peer in ((rows, peer) for rows in batches for peer in peers if rows in peer.batches):
            problem = _warm_up(peer, rows)
            if problem:
                missing.append({**head, "peer": peer.name, "batch": rows, "missing": problem})
            else:
                entries.append((peer, rows))
        taken = _rounds(entries, device, clock, seconds, repeats, peer_budget_seconds)
    rows_found = [{**head, **_row(*entry, seconds, taken[entry[0].name, entry[1]])} for entry in entries]
    ours = {r["batch"]: r["audio_seconds_per_second"] for r in rows_found if r["peer"] == OURS}
    for row in rows_found:
        row["ours_over_theirs"] = ours[row["batch"]] / row["audio_seconds_per_second"]
    return rows_found + missing


def _warm_up(peer: Peer, rows: int) -> str | None:
    """Run once, shortly. What went wrong, if anything: a peer of another version may not run."""
    try:
        for call in peer.calls(rows, WARM_UP_SECONDS).values():
            call()
    except Exception as error:
        if peer.name == OURS:
            raise
        return f"{type(error).__name__}: {error}".splitlines()[0]
    return None


def _rounds(
    entries: Sequence[tuple[Peer, int]],
    device: torch.device,
    clock: Clock,
    seconds: float,
    repeats: int,
    peer_budget_seconds: float,
) -> dict[tuple[str, int], list[dict[str, float]]]:
    """Seconds per stage of each repetition, by (peer, batch)."""
    taken: dict[tuple[str, int], list[dict[str, float]]] = {(peer.name, rows): [] for peer, rows in entries}
    spent = dict.fromkeys(taken, 0.0)
    for _ in range(repeats):
        for peer, rows in entries:
            key = peer.name, rows
            done = len(taken[key])
            if done and spent[key] * (1 + 1 / done) > peer_budget_seconds:
                continue
            started = time.perf_counter()
            calls = peer.calls(rows, seconds)
            taken[key].append({name: seconds_of(call, clock, device) for name, call in calls.items()})
            spent[key] += time.perf_counter() - started
    return taken


def _row(peer: Peer, rows: int, seconds: float, taken: Sequence[dict[str, float]]) -> dict[str, Any]:
    total = Spread.of([sum(run.values()) for run in taken])
    steps = peer.steps(seconds)
    return {
        "peer": peer.name,
        "note": peer.note,
        "batch": rows,
        "run_seconds": asdict(total),
        "spread": total.width,
        "audio_seconds_per_second": rows * seconds / total.median,
        "steps_per_second": {
            name: count / Spread.of([run[name] for run in taken]).median for name, count in steps.items()
        },
    }
