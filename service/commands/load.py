"""`audiolm load`: how a running service bears up under callers."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING

from service.commands import Subparsers, add_command

if TYPE_CHECKING:
    from service.load import Report

EXAMPLES = """\
  audiolm load clip.wav --concurrency 1 4 8 --duration 60        closed loop: so many callers at once
  audiolm load clip.wav --rate 0.5 1 2 --duration 60             open loop: so many arrivals per second (Poisson)
  audiolm load clip.wav --concurrency 8 --seconds 5 --json load.json

Prints time to first audio, duration and real-time factor at p50 / p95 / p99, audio seconds made per second, goodput
(requests per second that succeeded within --objective) and the errors. Nothing is retried.
"""


def register(subparsers: Subparsers) -> None:
    parser = add_command(subparsers, "load", "measure a running service under load", EXAMPLES)
    parser.add_argument("clip", type=Path, metavar="CLIP", help="the sound that every request continues")
    parser.add_argument("--url", default="http://localhost:8000", help="default: http://localhost:8000")
    parser.add_argument("--key", help="API key, if the service asks for one")
    how = parser.add_mutually_exclusive_group(required=True)
    how.add_argument("--concurrency", type=int, nargs="+", metavar="N", help="callers at once")
    how.add_argument("--rate", type=float, nargs="+", metavar="R", help="arrivals per second")
    parser.add_argument("--duration", type=float, default=30.0, help="seconds of each load (default: 30)")
    parser.add_argument(
        "--seconds",
        type=float,
        nargs="+",
        default=[5.0],
        metavar="S",
        help="length of a continuation; of several, each request takes the next (default: 5)",
    )
    parser.add_argument(
        "--objective", type=float, default=30.0, help="seconds within which an answer is good"
    )
    parser.add_argument(
        "--seed", type=int, default=0, help="of the arrivals and the first request (default: 0)"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures here too")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    import asyncio

    from model.errors import AudioError
    from service.load import table

    try:
        clip = args.clip.read_bytes()
    except OSError as error:
        raise AudioError(f"{args.clip}: {error.strerror}", code="missing_file") from error
    reports = asyncio.run(_measure(args, clip))
    print(table(reports))
    if args.json:
        args.json.write_text(json.dumps([report.to_dict() for report in reports], indent=2) + "\n")
    return 0 if any(report.succeeded for report in reports) else 1


async def _measure(args: argparse.Namespace, clip: bytes) -> list[Report]:
    import random

    from service.client import AsyncClient
    from service.load import Load

    async with AsyncClient(args.url, key=args.key, retries=0) as client:
        load = Load(client, clip, seconds=args.seconds, seed=args.seed, objective_seconds=args.objective)
        if args.concurrency:
            return [await load.closed(concurrency, args.duration) for concurrency in args.concurrency]
        rng = random.Random(args.seed)
        return [await load.open(rate, args.duration, rng) for rate in args.rate]
