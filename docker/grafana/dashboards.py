"""`python docker/grafana/dashboards.py` writes the dashboards as JSON; `--check` only compares.

tests/docker holds every query to what the service exports and runs it against a Prometheus that scraped a service
under load.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from content import CONTENT
from health import HEALTH

FOLDER = Path(__file__).parent / "dashboards"


def main(arguments: list[str]) -> int:
    """Write the dashboards, or with --check say whether they are as written. Returns the exit status."""
    stale = 0
    for dashboard in (HEALTH, CONTENT):
        path = FOLDER / f"{dashboard.uid}.json"
        text = json.dumps(dashboard.to_json(), indent=2) + "\n"
        if "--check" not in arguments:
            path.write_text(text)
        elif not path.exists() or path.read_text() != text:
            print(f"{path} is out of date: run python docker/grafana/dashboards.py", file=sys.stderr)
            stale = 1
    return stale


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
