"""`make bench`: every measurement of speed in one run, as tables and as JSON.

    python -m tests.benchmarks [--quick] [--systems shipped base] [--device all] [--only stages peers] [--json FILE]

Beside each figure stand the limit of the device, measured at the start, and the peers, measured in the same run.
Sections print as they end. What does not fit into memory or time is named, never left out silently.
"""

from __future__ import annotations

import argparse
import dataclasses
import gc
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from model.audiolm import AudioLM
from model.errors import AudioLMError
from tests.benchmarks import codecs, continuation, limits, peers, provenance, report, stages, targets
from tests.benchmarks.conditions import conditions, is_busy
from tests.benchmarks.systems import SHIPPED, SYSTEMS, build, devices, unguided
from tests.benchmarks.timing import CLOCKS

SECTIONS = ("continuation", "stages", "peers", "codecs", "provenance", "serving", "overhead", "aborts")
HTTP_SECTIONS = ("serving", "overhead", "aborts")  # programs of their own


@dataclasses.dataclass(frozen=True)
class Extent:
    """How much is measured."""

    batches: tuple[int, ...] = (1, 8, 32, 64)
    slices: int = 3
    slice_seconds: float = 1.5
    settle_seconds: float = 25.0
    lengths: tuple[float, ...] = (10.0, 30.0)
    repeats: int = 3
    wait_seconds: float = 40.0  # of lone callers of one system
    peer_seconds: float = 1.0  # of sound
    peer_repeats: int = 2
    peer_budget_seconds: float = 45.0
    codec_seconds: float = 5.0
    codec_budget_seconds: float = 30.0
    detect_seconds: float = 60.0


QUICK = Extent(
    batches=(1, 8),
    slices=2,
    slice_seconds=1.0,
    settle_seconds=8.0,
    lengths=(5.0,),
    repeats=1,
    wait_seconds=8.0,
    peer_seconds=0.4,
    peer_repeats=1,
    peer_budget_seconds=10.0,
    codec_seconds=2.0,
    codec_budget_seconds=8.0,
)


class Run:
    """One run: what to measure, what was found so far."""

    def __init__(self, args: argparse.Namespace) -> None:
        self.args, self.extent = args, QUICK if args.quick else Extent()
        self.clock = CLOCKS[args.clock]
        self.found: dict[str, Any] = {"conditions": conditions(args.clock)}
        self.found["conditions"]["busy"] = is_busy(self.found["conditions"])
        self._started = time.perf_counter()

    def show(self, title: str, text: str) -> None:
        print(f"\n## {title} ({time.perf_counter() - self._started:.0f} s)\n\n{text}", flush=True)

    def wants(self, section: str) -> bool:
        return section in self.args.only

    def all(self) -> None:
        self.show("Conditions", report.conditions(self.found["conditions"]))
        for device in devices(self.args.device):
            self._device(device)
        for section in HTTP_SECTIONS:
            if self.wants(section):
                self.show(section.capitalize(), "")
                self._program(section)
        self.found["targets"] = targets.judge(self.found)
        if self.found["targets"]:
            self.show("Targets", report.targets(self.found["targets"]))
        self.found["conditions"]["load_average_at_end"] = list(os.getloadavg())
        self.found["conditions"]["seconds"] = time.perf_counter() - self._started

    def _device(self, device: torch.device) -> None:
        extent, on_cuda = self.extent, device.type == "cuda"
        if self.wants("continuation"):
            for system in self.args.systems:
                row = continuation.in_fresh_process(
                    system, device, list(extent.lengths), [8, 64] if on_cuda else [8], extent.repeats,
                    self.args.clock, torch.get_num_threads(), extent.wait_seconds / (2 if system == "base" else 1),
                )  # fmt: skip
                self._add("continuation", [row], report.continuations)
        best = limits.measure(device, self.clock)
        row = {"device": device.type, **dataclasses.asdict(best)}
        self._add("limits", [row], report.limits)
        for system in self.args.systems:
            try:
                model = build(system, device)
            except AudioLMError as error:
                self._add("systems", [{"system": system, "failed": str(error)}], _failures)
                continue
            with torch.inference_mode():
                self._system(model, system, device, best)
            del model
            gc.collect()

    def _system(self, model: AudioLM, system: str, device: torch.device, best: limits.Limits) -> None:
        extent, small = self.extent, system != "base" or device.type == "cuda"
        if self.wants("stages"):
            rows = stages.measure(
                model, system, device, extent.batches, best, self.clock, slices=extent.slices,
                slice_seconds=extent.slice_seconds, settle_seconds=extent.settle_seconds,
            )  # fmt: skip
            self._add("stages", rows, report.stages)
        if self.wants("peers") and not small:
            why = "left out: peers of this size take minutes per second of sound on a CPU"
            self._add("peers", [{"system": system, "device": device.type, "skipped": why}], report.peers)
        elif self.wants("peers"):
            with unguided(model):
                rows = peers.measure(
                    model, system, device, extent.batches, self.clock, seconds=extent.peer_seconds,
                    repeats=extent.peer_repeats, peer_budget_seconds=extent.peer_budget_seconds,
                )  # fmt: skip
            self._add("peers", rows, report.peers)
        if self.wants("codecs"):
            rows = codecs.measure(
                f"ours, {system}", model.codec, device, self.clock, with_peers=small,
                seconds=extent.codec_seconds, rows=1, repeats=extent.repeats,
                budget_seconds=extent.codec_budget_seconds,
            )  # fmt: skip
            self._add("codecs", rows, report.codecs)
        if self.wants("provenance") and system != "base":
            rows = provenance.measure(
                model, system, device, self.clock, seconds=extent.detect_seconds, repeats=extent.repeats,
                budget_seconds=extent.wait_seconds,
            )  # fmt: skip
            if system == SHIPPED and device.type == "cpu":
                rows.append(provenance.measure_route(extent.detect_seconds, extent.repeats))
            self._add("provenance", rows, report.provenance)

    def _add(self, section: str, rows: list[dict[str, Any]], text: Callable[[list[Any]], str]) -> None:
        self.found.setdefault(section, []).extend(rows)
        self.show(section.capitalize(), text(rows))

    def _program(self, name: str) -> None:
        """Run a benchmark that is a program of its own; it prints its tables itself."""
        if self.args.quick and name == "serving":
            print("left out: takes minutes; python -m tests.benchmarks.serving")
            return
        options = {
            "serving": ["--duration", "6"],
            "overhead": ["--requests", "100"] if self.args.quick else [],
        }
        with tempfile.TemporaryDirectory() as folder:
            out = Path(folder) / "found.json"
            command = [sys.executable, "-m", f"tests.benchmarks.{name}", *options[name], "--out", str(out)]
            status = subprocess.run(command).returncode
            self.found[name] = {"status": status, **(json.loads(out.read_text()) if out.exists() else {})}
        if status:
            print(f"exit status {status}: an objective was missed, or it failed")


def _failures(rows: list[dict[str, Any]]) -> str:
    return report.table({"system": lambda r: r["system"], "failed": lambda r: r["failed"]}, rows)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks", description=__doc__.splitlines()[0])
    parser.add_argument(
        "--quick", action="store_true", help="a minute instead of ten: fewer sizes, one repeat"
    )
    parser.add_argument("--systems", nargs="+", choices=SYSTEMS, default=[SHIPPED, "base"])
    parser.add_argument("--device", choices=("all", "cpu", "cuda"), default="all")
    parser.add_argument("--only", nargs="+", choices=SECTIONS, default=list(SECTIONS))
    parser.add_argument("--clock", choices=CLOCKS, default="wall", help="cpu: on a busy machine, one thread")
    parser.add_argument("--threads", type=int, help="of CPU arithmetic; default: PyTorch's")
    parser.add_argument("--json", type=Path, default=Path("build/bench.json"))
    args = parser.parse_args()
    if args.quick and args.systems == [SHIPPED, "base"]:
        args.systems = [SHIPPED]
    if args.threads:
        torch.set_num_threads(args.threads)
    on_cuda = any(device.type == "cuda" for device in devices(args.device))
    if args.clock == "cpu" and (torch.get_num_threads() > 1 or on_cuda):
        parser.error(
            "--clock cpu counts the time of all threads and none of a GPU: give --threads 1 --device cpu"
        )
    run = Run(args)
    run.all()
    args.json.parent.mkdir(parents=True, exist_ok=True)
    args.json.write_text(json.dumps(run.found, indent=1, default=str) + "\n")
    print(f"\n{run.found['conditions']['seconds']:.0f} s; {args.json}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
