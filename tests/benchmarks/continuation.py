"""How long callers wait: real-time factor, time to first audio, start, and peak memory, in a fresh process.

    python -m tests.benchmarks.continuation [--system shipped] [--device cpu] [--seconds 10 30] [--callers 8]

A lone caller first, then several that come together. The engine is the service's own, warmed up as the service warms
it up; HTTP around it is measured by `overhead` and `serving`. Prints one line of JSON.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time
from dataclasses import asdict
from typing import Any

import torch

from model.audiolm import AudioLM
from model.engine.engine import Engine
from model.engine.loading import warm_up
from tests.benchmarks.systems import SHIPPED, SYSTEMS, Listener, build, new_engine, run_to_end, submit
from tests.benchmarks.timing import CLOCKS, Clock, Spread


def measure(
    system: str,
    device: torch.device,
    lengths: list[float],
    callers: list[int],
    repeats: int,
    clock: Clock,
    budget_seconds: float,
) -> dict[str, Any]:
    """Lengths take turns; what would pass the budget is left out and named. Callers together ask for lengths[0]."""
    began = time.perf_counter()
    model = build(system, device)
    engine = new_engine(model, slots=1, max_seconds=max(lengths))
    warm_up(engine, 2.0)
    ready = time.perf_counter() - began
    taken: dict[float, list[tuple[float, float]]] = {length: [] for length in lengths}
    skipped: set[float] = set()
    began = time.perf_counter()
    pace = 0.0  # wall seconds per second of sound so far
    for repeat in range(repeats):
        for length in lengths:
            spent = time.perf_counter() - began
            if length in skipped or (pace and spent + pace * length > budget_seconds):
                if not taken[length]:
                    skipped.add(length)
                continue
            started = time.perf_counter()
            taken[length].append(_one(engine, length, repeat, clock))
            pace = (time.perf_counter() - started) / length
    skips = [f"{length:g} s: no time" for length in sorted(skipped)]
    crowds = []
    for count in callers:
        if time.perf_counter() - began + 0.6 * pace * count * lengths[0] > 2 * budget_seconds:
            skips.append(f"{count} callers: no time")
        else:
            crowds.append(_together(model, count, lengths[0], clock))
    rows = [
        {
            "seconds": length,
            "real_time_factor": asdict(Spread.of([total / length for total, _ in runs])),
            "first_audio_seconds": asdict(Spread.of([first for _, first in runs])),
        }
        for length, runs in taken.items()
        if runs
    ]
    return {
        "system": system,
        "device": device.type,
        "prompt_seconds": 3.0,
        "ready_seconds": ready,
        "lengths": rows,
        "together": crowds,
        "skipped": skips,
        "stage_share": _shares(engine),
        "peak_memory_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10,
        "peak_device_bytes": torch.cuda.max_memory_allocated() if device.type == "cuda" else None,
    }


def _one(engine: Engine, seconds: float, seed: int, clock: Clock) -> tuple[float, float]:
    """(seconds in all, seconds to the first sound)."""
    started = clock()
    sequence = submit(engine, seconds, seed)
    listener = sequence.sink
    assert isinstance(listener, Listener)
    while not listener.heard:
        engine.step()
    first = clock() - started
    run_to_end(engine)
    assert listener.error is None
    return clock() - started, first


def _together(model: AudioLM, callers: int, seconds: float, clock: Clock) -> dict[str, Any]:
    """`callers` sequences submitted at once to an engine with as many slots."""
    engine = new_engine(model, callers, seconds)
    warm_up(engine, 2.0)
    started, began = clock(), time.perf_counter()
    sequences = [submit(engine, seconds, seed) for seed in range(callers)]
    run_to_end(engine)
    taken = clock() - started
    heard = [sequence.sink.heard[0][0] - began for sequence in sequences]  # type: ignore[attr-defined]
    return {
        "callers": callers,
        "seconds": seconds,
        "real_time_factor": taken / seconds / callers,  # of each second that anyone gets
        "audio_seconds_per_second": callers * seconds / taken,
        "first_audio_wall_seconds": asdict(Spread.of(heard)),
    }


def _shares(engine: Engine) -> dict[str, float]:
    """Part of the running time that went into each stage, prefills included."""
    totals = {stage: spent.total for stage, spent in engine.counters.step_seconds.items()}
    return {stage: total / sum(totals.values()) for stage, total in totals.items()}


def in_fresh_process(
    system: str,
    device: torch.device,
    lengths: list[float],
    callers: list[int],
    repeats: int,
    clock: str,
    threads: int,
    budget_seconds: float,
) -> dict[str, Any]:
    """`measure` in a process of its own, whose peak memory is its own. A failure is a row that says why."""
    command = [sys.executable, "-m", "tests.benchmarks.continuation", "--system", system, "--clock", clock]
    command += ["--device", device.type, "--repeats", str(repeats), "--threads", str(threads)]
    command += ["--budget", str(budget_seconds), "--seconds", *(f"{length:g}" for length in lengths)]
    command += ["--callers", *map(str, callers)]
    head = {"system": system, "device": device.type}
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10 * budget_seconds + 120)
    except subprocess.TimeoutExpired as error:
        return {**head, "failed": f"did not end within {error.timeout:g} s"}
    if done.returncode:
        return {**head, "failed": done.stderr.strip().splitlines()[-1] if done.stderr else "no message"}
    return json.loads(done.stdout.splitlines()[-1])  # type: ignore[no-any-return]


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.continuation")
    parser.add_argument("--system", choices=SYSTEMS, default=SHIPPED)
    parser.add_argument("--device", type=torch.device, default=torch.device("cpu"))
    parser.add_argument("--seconds", type=float, nargs="+", default=[10.0, 30.0])
    parser.add_argument("--callers", type=int, nargs="*", default=[8])
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=None)
    parser.add_argument("--clock", choices=CLOCKS, default="wall")
    parser.add_argument("--budget", type=float, default=60.0, help="wall-clock seconds for all runs")
    args = parser.parse_args()
    if args.threads:
        torch.set_num_threads(args.threads)
    found = measure(
        args.system,
        args.device,
        args.seconds,
        args.callers,
        args.repeats,
        CLOCKS[args.clock],
        args.budget,
    )
    print(json.dumps(found))
    return 0


if __name__ == "__main__":
    sys.exit(main())
