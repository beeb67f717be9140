"""What HTTP, the queue, decoding and encoding cost around a model that does nothing.

    python -m tests.benchmarks.overhead [--requests 300] [--callers 8] [--out overhead.json]

A server process around the fake engine of the tests, one connection per caller; the objective is a median under 5 ms
for a lone caller. The callers are `http.client`, which adds less of its own than any other. Beside the wall clock
stands the processor time of the server, which says more on a machine that others keep busy.
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from service.load import quantiles
from tests.benchmarks.conditions import conditions, is_busy
from tests.service.conftest import clip
from tests.service.processes import Process, process

OBJECTIVE_SECONDS = 0.005
URL = "/continue?seconds=5&seed=1"
KINDS = {
    "3 s in, 5 s out, wav": "",
    "the same, streamed": "&stream=true",
    "the same, flac": "&response_format=flac",
}


def call(server: Process, requests: int, url: str, body: bytes) -> list[float]:
    """Seconds of each of `requests` requests, one after the other on one connection."""
    seconds = []
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=20)
    for _ in range(requests):
        started = time.perf_counter()
        connection.request("POST", url, body=body)
        answer = connection.getresponse()
        data = answer.read()
        seconds.append(time.perf_counter() - started)
        assert answer.status == 200, data
    connection.close()
    return seconds


def measure(server: Process, callers: int, requests: int, url: str, body: bytes) -> dict[str, float]:
    """Seconds of a request at p50, p95 and p99, and `processor`: the server's time for one."""
    with ThreadPoolExecutor(callers) as pool:
        before = server.processor_seconds()
        runs = [pool.submit(call, server, requests, url, body) for _ in range(callers)]
        seconds = [second for run in runs for second in run.result()]
        used = server.processor_seconds() - before
    return {**quantiles(seconds), "processor": used / len(seconds)}


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.overhead")
    parser.add_argument("--requests", type=int, default=300, help="of each caller (default: 300)")
    parser.add_argument("--callers", type=int, default=8, help="beside a lone one (default: 8)")
    parser.add_argument("--out", type=Path, help="write the figures here too, as JSON")
    args = parser.parse_args()

    found = conditions("wall")
    body = clip(3.0)
    figures: list[dict[str, Any]] = []
    with process({"slots": 32}, max_queue_size=1000) as server:
        call(server, 50, URL, body)
        for name, query in KINDS.items():
            figures.append(
                {"request": name, "callers": 1, **measure(server, 1, args.requests, URL + query, body)}
            )
        name = next(iter(KINDS))
        many = measure(server, args.callers, args.requests, URL, body)
        figures.append({"request": name, "callers": args.callers, **many})

    print(f"no-op model, {found['machine']}, {found['cores_allowed']} cores, load {found['load_average'][0]}")
    print(table(figures))
    met = figures[0]["p50"] < OBJECTIVE_SECONDS
    print(f"median of a lone caller under {OBJECTIVE_SECONDS * 1000:g} ms: {'yes' if met else 'NO'}")
    if is_busy(found):
        print("others used the machine meanwhile: the wall clock counts them too")
    if args.out:
        args.out.write_text(json.dumps({"conditions": found, "overhead": figures}, indent=2) + os.linesep)
    return 0 if met or is_busy(found) else 1


def table(figures: list[dict[str, Any]]) -> str:
    """Markdown; milliseconds."""
    rows = ["| request | callers | p50 | p95 | p99 | server's processor |", "|---|---|---|---|---|---|"]
    for figure in figures:
        values = [f"{figure[key] * 1000:.1f}" for key in ("p50", "p95", "p99", "processor")]
        rows.append(f"| {figure['request']} | {figure['callers']} | {' | '.join(values)} |")
    return "\n".join(rows)


if __name__ == "__main__":
    sys.exit(main())
