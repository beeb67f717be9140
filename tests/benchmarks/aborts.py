"""Whether callers who leave cost memory for good: resident memory of a server over thousands of them.

    python -m tests.benchmarks.aborts [--requests 2000] [--warm-up 8000]

Uploads of every age leave holes where they lay, and for thousands of requests the heap still grows by some MiB until
new ones fit into the holes of old ones; what is measured is what grows after that. The same once more with a server
that never forgets a prompt: the control, which has to be noticed.
"""

from __future__ import annotations

import argparse
import sys

from tests.benchmarks.conditions import conditions
from tests.service.aborts import growth
from tests.service.processes import process


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.aborts")
    parser.add_argument("--requests", type=int, default=2000)
    parser.add_argument("--warm-up", type=int, default=8000, help="requests before the first reading")
    args = parser.parse_args()
    found = conditions("wall")
    print(f"{found['machine']}, {found['cores_allowed']} cores")
    grown = {}
    for name, leak in (("the service", False), ("the leaking control", True)):
        options = {"slots": 8, "step_seconds": 0.002, "leak": leak}
        with process(options, max_queue_size=1000, max_backlog_seconds=1e9, deadline_seconds=1e9) as server:
            grown[leak] = growth(server, args.requests, warm_up=args.warm_up)
        print(f"{name}: {grown[leak]}{', a leak' if grown[leak].leaks else ''}")
    return 0 if grown[True].leaks and not grown[False].leaks else 1


if __name__ == "__main__":
    sys.exit(main())
