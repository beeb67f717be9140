"""What may have happened to a clip on its way, and the search through it.

Speed (a tape running fast), tempo (time alone) and pitch (frequency alone), each by up to 10 % in steps of 2 %: between
two steps, at most a percent away, a window of five seconds still lines up to half a chip. Every hypothesis is counted
in the p-value. Two tests share the error rate: by the synchronization signs alone, and by all cells given the
likeliest of the 65,536 words, which hears weaker marks once they are long enough.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from model.watermark.code import NUM_WORDS, Word
from model.watermark.features import Features, Warp
from model.watermark.pattern import Pattern
from model.watermark.reading import read
from model.watermark.search import Hit, best_hit, p_value

_FACTORS = tuple(1 + percent / 100 for percent in range(-10, 11, 2) if percent)
WARPS = (
    Warp(),
    *(Warp(duration, 1.0) for duration in _FACTORS),
    *(
        Warp(duration, factor) for factor in _FACTORS for duration in (1.0, 1 / factor)
    ),  # levels are kept per pitch
)
_WORD_SHARE = 0.1  # of the error rate goes to the test that reads all cells
_READ = 3  # hypotheses whose payload is read
_REFINEMENTS = (0.01, 0.005, 0.0025)
_BETTER = 1.0  # standard deviations by which a refined warp must win


@dataclass(frozen=True)
class Finding:
    """The likeliest place of one key's mark. p_value: counts everything that was tried."""

    warp: Warp
    hit: Hit
    word: Word
    p_value: float


def search(features: Features, patterns: Sequence[Pattern]) -> list[Finding]:
    """One finding for each pattern."""
    hits: list[list[tuple[Warp, Hit]]] = [[] for _ in patterns]
    for warp in WARPS:
        scores = features.scores(warp)
        for pattern, found in zip(patterns, hits, strict=True):
            found.append((warp, best_hit(scores, pattern)))
    return [_finding(features, pattern, found) for pattern, found in zip(patterns, hits, strict=True)]


def _finding(features: Features, pattern: Pattern, hits: list[tuple[Warp, Hit]]) -> Finding:
    looked_at = sum(hit.looked_at for _, hit in hits)
    findings = []
    for warp, hit in sorted(hits, key=lambda pair: -pair[1].z)[:_READ]:
        reading = read(features.scores(warp), pattern, hit)
        by_sync = p_value(hit.z, looked_at) / (1 - _WORD_SHARE)
        by_word = p_value(reading.z, looked_at * NUM_WORDS) / _WORD_SHARE
        findings.append(Finding(warp, hit, reading.word, min(1.0, by_sync, by_word)))
    return min(findings, key=lambda finding: finding.p_value)


def refine(features: Features, pattern: Pattern, finding: Finding) -> Finding:
    """The same mark at the warp that fits best, between the steps of the search; its p-value stays."""
    warp, hit = finding.warp, finding.hit
    for step in _REFINEMENTS:
        center = warp
        for factor in (1 - step, 1 + step):
            tried = _moved(center, factor)
            found = best_hit(features.scores(tried), pattern)
            if found.z > hit.z + _BETTER:
                warp, hit = tried, found
    word = read(features.scores(warp), pattern, hit).word
    return replace(finding, warp=warp, hit=hit, word=word)


def _moved(warp: Warp, factor: float) -> Warp:
    """A little faster or higher, in the way of `warp`."""
    if warp.duration == 1.0 and warp.pitch != 1.0:
        return Warp(1.0, warp.pitch * factor)
    if warp.pitch == 1.0:
        return Warp(warp.duration / factor, 1.0)
    return Warp(warp.duration / factor, warp.pitch * factor)
