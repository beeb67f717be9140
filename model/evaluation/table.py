"""One table of results, and its two forms: Markdown for the README and HTML for the report."""

from __future__ import annotations

import html
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Table:
    """Rows of cells that are already text; the first column names the row. `note` is a sentence below."""

    title: str
    columns: tuple[str, ...]
    rows: Sequence[tuple[str, ...]]
    note: str = ""

    def __post_init__(self) -> None:
        assert all(len(row) == len(self.columns) for row in self.rows), self.title

    def markdown(self) -> str:
        """A pipe table under a bold title, numbers to the right."""
        lines = [
            f"**{self.title}**",
            "",
            _pipes(self.columns),
            _pipes(("---",) + ("---:",) * (len(self.columns) - 1)),
            *(_pipes(tuple(cell.replace("|", r"\|") for cell in row)) for row in self.rows),
        ]
        if self.note:
            lines += ["", self.note]
        return "\n".join(lines) + "\n"

    def html(self) -> str:
        """A <figure> that scrolls sideways on a narrow screen."""
        head = "".join(f'<th scope="col">{html.escape(cell)}</th>' for cell in self.columns)
        body = "".join(
            f'<tr><th scope="row">{html.escape(row[0])}</th>'
            + "".join(f"<td>{html.escape(cell)}</td>" for cell in row[1:])
            + "</tr>"
            for row in self.rows
        )
        note = f"<p>{html.escape(self.note)}</p>" if self.note else ""
        table = (
            f"<table><caption>{html.escape(self.title)}</caption><thead><tr>{head}</tr></thead><tbody>{body}"
        )
        return f'<div class="table">{table}</tbody></table>{note}</div>'


def _pipes(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def number(value: float | None, digits: int = 2) -> str:
    """A number with fixed digits; a dash where there is none."""
    return "–" if value is None or math.isnan(value) else f"{value:.{digits}f}"


def percent(value: float, digits: int = 0) -> str:
    """A share as a percentage; a dash where there is none."""
    return "–" if math.isnan(value) else f"{100 * value:.{digits}f} %"


def interval(estimate: Mapping[str, Any], *, as_percent: bool = False, digits: int = 2) -> str:
    """A mean with its 95 % interval, from the dict of an `Estimate`."""
    if estimate["count"] == 0:
        return "–"
    if as_percent:
        low, high = 100 * estimate["low"], 100 * estimate["high"]
        return f"{percent(estimate['mean'])} ({low:.0f}–{high:.0f})"
    return (
        f"{number(estimate['mean'], digits)} ({estimate['low']:.{digits}f} to {estimate['high']:.{digits}f})"
    )
