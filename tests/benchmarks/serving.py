"""The service under callers, against simpler servers of the same model, on the same cores in the same run.

    python -m tests.benchmarks.serving [--quick] [--seconds 5] [--duration 40] [--bundle DIR] [--out serving.json]

Closed loop: a lone caller and several at once, each asking again when answered, for sound of one length and of mixed
lengths. Contenders: the service; the service with a single slot, which serves one at a time; a plain handler; whole
requests batched (LitServe). Then more load than the service can do, with random arrivals. The JSON file is what
`audiolm capacity` calculates with. Exit status 1 when an objective is missed on a machine that nobody else uses.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from service.client import AsyncClient
from service.load import Load, Report, table
from tests.benchmarks.conditions import conditions, is_busy
from tests.benchmarks.contenders import Contender, litserve, plain, service
from tests.benchmarks.overload import overload, retries, verdicts
from tests.service.conftest import clip

MIXED = (
    2.0,
    3.0,
    5.0,
    8.0,
    12.0,
)  # seconds of sound; every other server makes all of a batch as long as the longest
SPEEDUP = 2.5  # of the service over one at a time
FIRST_AUDIO_SECONDS = 1.5  # of a lone caller
BACKLOG_SECONDS = 15.0  # in overload: the line fills within the measurement
QUEUE, SLOTS = 64, 16
PROMPT_SECONDS = 3.0


class Bench:
    """What to measure and what was found."""

    def __init__(self, args: argparse.Namespace) -> None:
        self.args = args
        self.clip = clip(PROMPT_SECONDS)
        self.found: dict[str, Any] = {"conditions": conditions("wall"), "contenders": {}}
        self.many = f"{args.callers} callers"

    async def closed(
        self, contender: Contender, url: str, callers: Sequence[int], lengths: Sequence[float] = ()
    ) -> dict[str, Report]:
        """A report for each number of callers; the first request warms up and does not count."""
        async with contender.client(url) as client:
            load = Load(client, self.clip, seconds=lengths or self.args.seconds)  # type: ignore[arg-type]
            await load.closed(1, 0.001)
            reports = [await load.closed(count, self.args.duration) for count in callers]
        return {report.name: report for report in reports}

    def contend(self, contender: Contender, callers: Sequence[int], *, mixed: bool) -> dict[str, Report]:
        """Measure one server, print it, keep it."""
        with contender.running() as (url, ready):
            reports = asyncio.run(self.closed(contender, url, callers))
            if mixed:
                of_mixed = asyncio.run(self.closed(contender, url, [self.args.callers], MIXED))
                reports[f"{self.many}, mixed"] = of_mixed[self.many]
        self.found["contenders"][contender.name] = {
            "ready_seconds": ready,
            "load": {name: report.to_dict() for name, report in reports.items()},
        }
        print(
            f"\n### {contender.name} (ready after {ready:.1f} s)\n\n{table(list(reports.values()))}",
            flush=True,
        )
        return reports

    def overloaded(self, contender: Contender, peak: float) -> dict[str, Any]:
        """Measure the service under too much load."""

        async def run(url: str) -> dict[str, Any]:
            async with AsyncClient(url, retries=0) as client:
                await Load(client, self.clip, seconds=self.args.seconds).closed(self.args.callers, 1.0)
                reports = await overload(
                    client, self.clip, self.args.seconds, peak, self.args.duration, 3 * BACKLOG_SECONDS
                )
                print(f"\n### {contender.name}\n\n{table(reports)}", flush=True)
                count = 2 * max(SLOTS, round(peak * BACKLOG_SECONDS))
                came_back = await retries(client, self.clip, self.args.seconds, count)
            return {
                "load": {report.name: report.to_dict() for report in reports},
                **verdicts(peak, reports, came_back),
            }

        with contender.running() as (url, _):
            return asyncio.run(run(url))

    def all(self) -> int:
        args, given = self.args, {"bundle": self.args.bundle} if self.args.bundle else {}
        naive = ("--bundle", str(args.bundle)) if args.bundle else ()
        crowd = [1, args.callers] if args.quick else [1, 4, args.callers, 2 * args.callers]
        common = {"slots": SLOTS, "max_queue_size": QUEUE, **given}
        ours = self.contend(service("the service", **common), crowd, mixed=not args.quick)
        one = self.contend(
            service("one at a time", **{**common, "slots": 1, "max_backlog_seconds": 600}),
            [args.callers],
            mixed=False,
        )
        whole = self._naive(litserve(args.callers), naive)
        self._naive(plain(), naive)
        peak = max(report.succeeded / report.elapsed for name, report in ours.items() if "mixed" not in name)
        self.found["capacity"] = {
            "slots": SLOTS,
            "max_queue_size": QUEUE,
            "load": [report.to_dict() for name, report in ours.items() if "mixed" not in name],
        }
        flooded = service("the service, overloaded", **common, max_backlog_seconds=BACKLOG_SECONDS)
        self.found["overload"] = self.overloaded(flooded, peak)
        self.found["objectives"] = self._objectives(ours, one, whole)
        return self._conclude()

    def _naive(self, contender: Contender, options: tuple[str, ...]) -> dict[str, Report]:
        contender = Contender(
            contender.name, (*contender.arguments, *options), takes_json=contender.takes_json
        )
        callers = [self.args.callers] if self.args.quick else [1, self.args.callers]
        return self.contend(contender, callers, mixed=not self.args.quick)

    def _objectives(
        self, ours: dict[str, Report], one: dict[str, Report], whole: dict[str, Report]
    ) -> list[dict[str, Any]]:
        def speed(reports: dict[str, Report], name: str = self.many) -> float:
            return reports[name].audio_seconds_per_second

        over = self.found["overload"]
        gain, first = speed(ours) / speed(one), ours["1 callers"].first_audio["p50"]
        tail, other_tail = ours[self.many].duration["p95"], whole[self.many].duration["p95"]
        told = over["retries"]
        rows = [
            ("audio s/s against one at a time", gain, f">= {SPEEDUP:g}", gain >= SPEEDUP),
            ("p95 against whole requests batched, s", tail, f"<= {other_tail:.2f}", tail <= other_tail),
            (
                "first audio of a lone caller, s",
                first,
                f"< {FIRST_AUDIO_SECONDS:g}",
                first < FIRST_AUDIO_SECONDS,
            ),
            (
                "goodput at twice the load, of the peak",
                over["goodput_kept_at_twice_the_load"],
                ">= 0.9",
                over["goodput_kept"],
            ),
            (
                f"let in after Retry-After ({told['told']:.0f} s), of {told['refused']} refused",
                told["admitted"] / max(1, told["refused"]),
                "> 0.5",
                over["retry_after_is_honest"],
            ),
        ]
        if not self.args.quick:
            mixed = f"{self.many}, mixed"
            faster = speed(ours, mixed) / speed(whole, mixed)
            rows.append(
                ("audio s/s against whole requests batched, mixed lengths", faster, "> 1", faster > 1)
            )
        return [
            {"what": what, "measured": value, "objective": goal, "met": met}
            for what, value, goal, met in rows
        ]

    def _conclude(self) -> int:
        found = self.found["conditions"]
        busy = is_busy(found)
        print("\n### Objectives\n\n| what | measured | objective | met |\n|---|---|---|---|")
        for row in self.found["objectives"]:
            print(
                f"| {row['what']} | {row['measured']:.2f} | {row['objective']} | {'yes' if row['met'] else 'NO'} |"
            )
        print(
            f"\n{found['machine']}, {found['cores_allowed']} cores allowed of {found['cores']}, load average "
            f"{found['load_average'][0]} at the start and {os.getloadavg()[0]:.2f} at the end, torch {found['torch']}"
        )
        if busy:
            print("others used the machine meanwhile: these figures are theirs, too")
        if self.args.out:
            self.args.out.write_text(json.dumps(self.found, indent=2, default=str) + "\n")
        return 0 if busy or all(row["met"] for row in self.found["objectives"]) else 1


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.serving")
    parser.add_argument(
        "--quick", action="store_true", help="short sounds, fewer loads: to see that it works"
    )
    parser.add_argument("--seconds", type=float, default=5.0, help="of each continuation (default: 5)")
    parser.add_argument("--duration", type=float, default=40.0, help="seconds of each load (default: 40)")
    parser.add_argument("--callers", type=int, default=8, help="at once (default: 8)")
    parser.add_argument("--bundle", type=Path, help="default: the one that ships")
    parser.add_argument("--out", type=Path, help="write the figures here too, as JSON")
    args = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # leaving ends the servers that were started
    if args.quick:
        args.seconds, args.duration = 2.0, 8.0
    return Bench(args).all()


if __name__ == "__main__":
    sys.exit(main())
