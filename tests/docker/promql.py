"""What a PromQL expression refers to: enough of its grammar to hold dashboards and rules to what is exported."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass

from tests.docker.conftest import DOCKER, rules_of

_REFERENCE = re.compile(r"(?:\b(rate|increase|deriv|changes)\()?\b([a-zA-Z_:][a-zA-Z0-9_:]*)(\{[^}]*\})?")
_MATCHER = re.compile(r"(\w+)\s*(?:=~|!~|!=|=)")
_GROUPING = re.compile(r"\bby\s*\(([^)]*)\)")


@dataclass(frozen=True)
class Reference:
    """A series in an expression, the labels asked of it, and the function right around it (or an empty string)."""

    name: str
    labels: frozenset[str]
    function: str


def references(expression: str) -> Iterator[Reference]:
    """Every series of ours, of the process and of the recording rules that `expression` reads."""
    grouped = {label.strip() for labels in _GROUPING.findall(expression) for label in labels.split(",")} - {
        ""
    }
    for function, name, matchers in _REFERENCE.findall(expression):
        if name.startswith(("audiolm", "process_")) or ":" in name or name == "up":
            yield Reference(name, frozenset(grouped | set(_MATCHER.findall(matchers))), function)


def dashboard_queries() -> dict[str, str]:
    """Every query of every panel, by where it stands."""
    queries = {}
    for path in sorted((DOCKER / "grafana" / "dashboards").glob("*.json")):
        for panel in json.loads(path.read_text())["panels"]:
            for target in panel.get("targets", ()):
                queries[f"{path.stem} / {panel['title']} ({panel['id']}{target['refId']})"] = target["expr"]
    return queries


def rule_expressions() -> dict[str, str]:
    """The expression of every rule, by its name."""
    rules = [*rules_of("recording"), *rules_of("alerts")]
    return {rule.get("record") or rule["alert"]: rule["expr"] for rule in rules}


def recorded_series() -> set[str]:
    return {rule["record"] for rule in rules_of("recording")}
