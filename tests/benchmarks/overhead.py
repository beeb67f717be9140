"""What HTTP, the queue, decoding and encoding cost around a model that does nothing, without provenance and with it.

    python -m tests.benchmarks.overhead [--requests 300] [--callers 8] [--out overhead.json]

A server process around the fake engine of the tests, one connection per caller; the objective is a median under 5 ms
for a lone caller whose answer is not marked. What marking adds (the watermark over every second, a row that is on the
disk, the signature) stands in rows of its own, and layer by layer below. The callers are `http.client`, which adds less
of its own than any other. Beside the wall clock stands the processor time of the server, which says more on a machine
that others keep busy. The two servers take turns, so that they meet the same load.
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import re
import statistics
import sys
import tempfile
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
LONE = "3 s in, 5 s out, wav"
KINDS = {LONE: "", "the same, streamed": "&stream=true", "the same, flac": "&response_format=flac"}
LAYERS = ("watermark", "ledger", "content_credentials")


def call(
    server: Process, requests: int, url: str, body: bytes, layers: dict[str, list[float]]
) -> list[float]:
    """Seconds of each of `requests` requests, one after the other on one connection; those of `layers` are added."""
    seconds = []
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=20)
    for _ in range(requests):
        started = time.perf_counter()
        connection.request("POST", url, body=body)
        answer = connection.getresponse()
        data = answer.read()
        seconds.append(time.perf_counter() - started)
        assert answer.status == 200, data
        for step, taken in re.findall(r"(\w+);dur=([\d.]+)", answer.headers["Server-Timing"]):
            if step in layers:
                layers[step].append(float(taken) / 1000)
    connection.close()
    return seconds


def measure(server: Process, callers: int, requests: int, url: str, body: bytes) -> dict[str, Any]:
    """Seconds of a request at p50, p95 and p99; `processor`: the server's time for one; `layers`: medians of each
    layer of provenance, where the answer tells (a streamed one has left before it knows)."""
    layers: dict[str, list[float]] = {layer: [] for layer in LAYERS}
    with ThreadPoolExecutor(callers) as pool:
        before = server.processor_seconds()
        runs = [pool.submit(call, server, requests, url, body, layers) for _ in range(callers)]
        seconds = [second for run in runs for second in run.result()]
        used = server.processor_seconds() - before
    medians = {layer: statistics.median(taken) for layer, taken in layers.items() if taken}
    return {**quantiles(seconds), "processor": used / len(seconds), "layers": medians}


def compare(servers: dict[str, Process], callers: int, requests: int, body: bytes) -> list[dict[str, Any]]:
    """A row for each kind of answer and server, and for `callers` at once."""
    rows = []
    for kind, query in KINDS.items():
        for provenance, server in servers.items():
            found = measure(server, 1, requests, URL + query, body)
            rows.append({"request": kind, "provenance": provenance, "callers": 1, **found})
    for provenance, server in servers.items():
        found = measure(server, callers, requests, URL, body)
        rows.append({"request": LONE, "provenance": provenance, "callers": callers, **found})
    return rows


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.overhead")
    parser.add_argument("--requests", type=int, default=300, help="of each caller (default: 300)")
    parser.add_argument("--callers", type=int, default=8, help="beside a lone one (default: 8)")
    parser.add_argument("--out", type=Path, help="write the figures here too, as JSON")
    args = parser.parse_args()

    found = conditions("wall")
    body = clip(3.0)
    fake = {"slots": 32}
    with (
        tempfile.TemporaryDirectory() as folder,
        process(fake, max_queue_size=1000) as plain,
        process({**fake, "layers": True}, max_queue_size=1000, data_dir=Path(folder)) as marking,
    ):
        servers = {"off": plain, "on": marking}
        for server in servers.values():
            measure(server, 1, 50, URL, body)
        figures = compare(servers, args.callers, args.requests, body)

    print(f"no-op model, {found['machine']}, {found['cores_allowed']} cores, load {found['load_average'][0]}")
    print(table(figures))
    print(f"of the marked {LONE}: {layers_of(figures)}")
    met = figures[0]["p50"] < OBJECTIVE_SECONDS
    print(f"median of a lone caller under {OBJECTIVE_SECONDS * 1000:g} ms: {'yes' if met else 'NO'}")
    if is_busy(found):
        print("others used the machine meanwhile: the wall clock counts them too")
    if args.out:
        args.out.write_text(json.dumps({"conditions": found, "overhead": figures}, indent=2) + os.linesep)
    return 0 if met or is_busy(found) else 1


def table(figures: list[dict[str, Any]]) -> str:
    """Markdown; milliseconds."""
    rows = [
        "| request | provenance | callers | p50 | p95 | p99 | server's processor |",
        "|---|---|---|---|---|---|---|",
    ]
    for figure in figures:
        values = [f"{figure[key] * 1000:.1f}" for key in ("p50", "p95", "p99", "processor")]
        what = (figure["request"], figure["provenance"], str(figure["callers"]))
        rows.append(f"| {' | '.join([*what, *values])} |")
    return "\n".join(rows)


def layers_of(figures: list[dict[str, Any]]) -> str:
    """Medians of each layer for a lone caller."""
    (row,) = [f for f in figures if (f["request"], f["provenance"], f["callers"]) == (LONE, "on", 1)]
    return ", ".join(f"{layer} {taken * 1000:.1f} ms" for layer, taken in row["layers"].items())


if __name__ == "__main__":
    sys.exit(main())
