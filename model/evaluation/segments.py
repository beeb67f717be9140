"""How well told spans of time agree with the true ones. Spans are (start, end) in seconds and may overlap."""

from __future__ import annotations

from collections.abc import Sequence

Span = tuple[float, float]


def joined(spans: Sequence[Span]) -> list[Span]:
    """The same seconds as spans that do not overlap, in order."""
    found: list[Span] = []
    for start, end in sorted(span for span in spans if span[1] > span[0]):
        if found and start <= found[-1][1]:
            found[-1] = (found[-1][0], max(end, found[-1][1]))
        else:
            found.append((start, end))
    return found


def seconds_inside(spans: Sequence[Span], within: Span) -> float:
    """How much of `within` the spans cover."""
    return sum(max(0.0, min(end, within[1]) - max(start, within[0])) for start, end in joined(spans))


def overlap(told: Sequence[Span], truth: Sequence[Span]) -> float:
    """Intersection over union in seconds; 1 when both are empty."""
    common = sum(seconds_inside(told, span) for span in joined(truth))
    either = sum(end - start for start, end in joined([*told, *truth]))
    return common / either if either > 0 else 1.0
