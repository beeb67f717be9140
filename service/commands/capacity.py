"""`audiolm capacity`: how many callers a replica holds, and how many replicas some callers need."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING

from service.commands import Subparsers, add_command

if TYPE_CHECKING:
    from service.capacity import Replica

EXAMPLES = """\
  audiolm load clip.wav --concurrency 1 2 4 8 16 --duration 60 --json load.json     measure the machine first
  audiolm capacity load.json                                                        what one replica holds
  audiolm capacity build/serving.json                                               the same from `make bench`
  audiolm capacity load.json --callers 10000 --every 60 --objective 20              who needs how many replicas

One caller asks once in --every seconds. Prints what one replica holds, settings that fit it, the replicas that the
callers need, and how waiting grows with load up to where it breaks.
"""

LOADS = (0.5, 0.7, 0.8, 0.9, 0.95, 1.1, 1.5)  # of what the replicas can finish at most


def register(subparsers: Subparsers) -> None:
    parser = add_command(subparsers, "capacity", "size a deployment from measured figures", EXAMPLES)
    parser.add_argument(
        "load",
        type=Path,
        metavar="LOAD.json",
        help="what audiolm load --concurrency --json, or the serving benchmark, wrote",
    )
    parser.add_argument("--callers", type=int, default=10_000, help="callers to size for (default: 10000)")
    parser.add_argument(
        "--every", type=float, default=60.0, help="seconds between two requests of one (default: 60)"
    )
    parser.add_argument(
        "--objective", type=float, default=20.0, help="seconds for 95 in 100 answers (default: 20)"
    )
    parser.add_argument(
        "--slots", type=int, help="AUDIOLM_SLOTS of the measured service (default: as the file says, else 16)"
    )
    parser.add_argument(
        "--queue",
        type=int,
        help="AUDIOLM_MAX_QUEUE_SIZE to plan with (default: as the file says, else 64)",
    )
    parser.add_argument("--seed", type=int, default=0, help="of the simulated arrivals (default: 0)")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    from service.capacity import MeasurementError, most_arrivals, replica_of, replicas_for

    for name in ("callers", "every", "objective", "slots"):
        if getattr(args, name) is not None and getattr(args, name) <= 0:
            raise MeasurementError(f"--{name} is {getattr(args, name)}; it must be above 0")
    try:
        measured = json.loads(args.load.read_text())
    except (OSError, ValueError) as error:
        raise MeasurementError(f"{args.load}: {error}") from error
    replica = replica_of(measured, slots=args.slots, max_queue_size=args.queue)
    held = most_arrivals(replica, 1, args.objective, args.seed)
    print(
        f"One replica finishes at most {replica.limit:.3g} requests of {replica.audio_seconds:.3g} s each second, with "
        f"{replica.best} of them in work.\nWithin {args.objective:g} s it holds {held:.3g} requests a second: "
        f"{int(held * args.every)} callers who ask every {args.every:g} s.\n"
    )
    print(f"AUDIOLM_SLOTS={replica.best}")
    print(f"AUDIOLM_MAX_BACKLOG_SECONDS={args.objective:g}\n")
    arrivals = args.callers / args.every
    count = replicas_for(replica, arrivals, args.objective, args.seed)
    if count is None:
        print(
            f"No number of replicas answers within {args.objective:g} s: "
            f"a lone request takes {1 / replica.rate(1):.3g} s."
        )
        return 1
    print(f"{args.callers} callers ask {arrivals:.4g} times a second and need {count} replicas.\n")
    print(table(replica, count, args.objective, args.seed))
    return 0


def table(replica: Replica, replicas: int, objective_seconds: float, seed: int) -> str:
    """How `replicas` bear growing load: Markdown, times in seconds."""
    import random

    from service.capacity import simulate

    rows = [
        "| load | requests/s | refused | waiting p95 | p50 | p95 | p99 | |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for share in LOADS:
        arrivals = share * replica.limit * replicas
        outcome = simulate(replica, replicas, arrivals, random.Random(seed))
        verdict = "" if outcome.meets(objective_seconds) else "too much"
        rows.append(
            f"| {share:.0%} | {arrivals:.3g} | {outcome.refused:.1%} | {outcome.waited_p95:.2f} | {outcome.p50:.2f} "
            f"| {outcome.p95:.2f} | {outcome.p99:.2f} | {verdict} |"
        )
    return "\n".join(rows)
