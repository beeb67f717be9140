"""What HTTP, the queue, decoding and encoding cost around a model that does nothing.

    python -m tests.benchmarks.overhead [--requests 300] [--callers 8]

A server process around the fake engine of the tests, one connection per caller; the objective is a median under 5 ms
for a lone caller.
"""

from __future__ import annotations

import argparse
import os
import platform
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import httpx

from service.load import quantiles
from tests.service.conftest import clip
from tests.service.processes import Process, process

OBJECTIVE_SECONDS = 0.005


def measure(server: Process, requests: int, url: str, body: bytes) -> list[float]:
    """Seconds of each of `requests` requests, one after the other on one connection."""
    seconds = []
    with httpx.Client(base_url=str(server.http.base_url), timeout=20) as http:
        for _ in range(requests):
            started = time.perf_counter()
            response = http.post(url, content=body)
            seconds.append(time.perf_counter() - started)
            assert response.status_code == 200, response.text
    return seconds


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.overhead")
    parser.add_argument("--requests", type=int, default=300)
    parser.add_argument("--callers", type=int, default=8)
    args = parser.parse_args()
    body = clip(3.0)
    rows = ["| request | callers | p50 | p95 | p99 |", "|---|---|---|---|---|"]
    with process({"slots": 32}, max_queue_size=1000) as server:
        measure(server, 50, "/continue?seconds=5&seed=1", body)
        alone = quantiles(measure(server, args.requests, "/continue?seconds=5&seed=1", body))
        rows.append(_row("3 s in, 5 s out, wav", 1, alone))
        for query, name in (
            ("&stream=true", "the same, streamed"),
            ("&response_format=flac", "the same, flac"),
        ):
            rows.append(
                _row(
                    name,
                    1,
                    quantiles(measure(server, args.requests, f"/continue?seconds=5&seed=1{query}", body)),
                )
            )
        with ThreadPoolExecutor(args.callers) as pool:
            runs = [
                pool.submit(measure, server, args.requests, "/continue?seconds=5&seed=1", body)
                for _ in range(args.callers)
            ]
            seconds = [second for run in runs for second in run.result()]
        rows.append(_row("3 s in, 5 s out, wav", args.callers, quantiles(seconds)))
    print(f"no-op model, {platform.machine()}, {os.cpu_count()} cores, milliseconds")
    print("\n".join(rows))
    met = alone["p50"] < OBJECTIVE_SECONDS
    print(f"median of a lone caller under {OBJECTIVE_SECONDS * 1000:g} ms: {'yes' if met else 'NO'}")
    return 0 if met else 1


def _row(name: str, callers: int, values: dict[str, float]) -> str:
    return f"| {name} | {callers} | " + " | ".join(f"{value * 1000:.1f}" for value in values.values()) + " |"


if __name__ == "__main__":
    sys.exit(main())
