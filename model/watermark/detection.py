"""Is a clip marked, by which key, with which payload, and where?

Decisions held here: that a clip counts as marked when chance would do as much in fewer than one of 10,000 clips, all
searching counted; that a payload is only told when it is all but certain; that a clip may hold several marked
stretches. Which speeds are tried is `hypotheses`' matter, what a p-value means is `search`'s.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from model.config import SAMPLE_RATE
from model.errors import AudioError
from model.watermark.bands import CHIP_FRAMES, HOP
from model.watermark.features import Features
from model.watermark.hypotheses import Finding, refine, search
from model.watermark.key import WatermarkKey
from model.watermark.pattern import Pattern
from model.watermark.reading import read, stretches
from model.watermark.search import best_hit

THRESHOLD = 1e-4
_CERTAIN = 0.99  # probability of a payload that is told
_MOST_STRETCHES = 32
_GAP = 0.3  # seconds: stretches closer than this are one

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Mark:
    """What was found. p_value: chance that a clip without the mark looks as marked; payload: None where it cannot be
    told; segments: (start, end) in seconds, in order; threshold: `present` means p_value <= threshold;
    duration, pitch: by how much the clip seems stretched and transposed (1.0 where nothing is present)."""

    present: bool
    p_value: float
    payload: int | None
    key_id: str | None
    segments: tuple[tuple[float, float], ...]
    threshold: float
    duration: float = 1.0
    pitch: float = 1.0


def find(waveform: Floats, keys: Sequence[WatermarkKey], threshold: float = THRESHOLD) -> Mark:
    """Look for the marks of `keys` in waveform [N] at 16 kHz. Raises AudioError (non_finite)."""
    waveform = np.asarray(waveform, np.float32)
    if not np.isfinite(waveform).all():
        raise AudioError("the clip holds samples that are not numbers", code="non_finite")
    nothing = Mark(False, 1.0, None, None, (), threshold)
    if len(waveform) == 0 or not keys:
        return nothing
    features = Features(waveform)
    patterns = [Pattern.of(key) for key in keys]
    findings = search(features, patterns)
    chosen = min(range(len(keys)), key=lambda i: findings[i].p_value)
    p_value = min(1.0, findings[chosen].p_value * len(keys))
    if p_value > threshold:
        return replace(nothing, p_value=p_value)
    finding = refine(features, patterns[chosen], findings[chosen])
    return Mark(
        present=True,
        p_value=p_value,
        payload=finding.word.payload if finding.word.probability >= _CERTAIN else None,
        key_id=keys[chosen].key_id,
        segments=_segments(features, patterns[chosen], finding, threshold, len(waveform) / SAMPLE_RATE),
        threshold=threshold,
        duration=finding.warp.duration,
        pitch=finding.warp.pitch,
    )


def _segments(
    features: Features, pattern: Pattern, finding: Finding, threshold: float, seconds: float
) -> tuple[tuple[float, float], ...]:
    """All marked stretches at the warp of `finding`: the first hides the weaker ones until it is taken out."""
    scores = features.scores(finding.warp).copy()
    frame_seconds = finding.warp.duration * HOP / SAMPLE_RATE
    found: list[tuple[float, float]] = []
    hit, word = finding.hit, finding.word
    for _ in range(_MOST_STRETCHES):
        for first, last in stretches(scores, pattern, hit, word):
            start, end = (hit.phase + CHIP_FRAMES * chip for chip in (first, last))
            # Where the clip goes on, the outermost chip may lie half outside the mark: it is not told.
            inner_start = start + CHIP_FRAMES * (start >= CHIP_FRAMES)
            inner_end = end - CHIP_FRAMES * (end <= len(scores) - CHIP_FRAMES)
            if inner_end > inner_start:
                found.append(
                    (
                        max(0.0, (inner_start - 0.5) * frame_seconds),
                        min(seconds, (inner_end - 0.5) * frame_seconds),
                    )
                )
            scores[max(0, start - CHIP_FRAMES) : end] = 0  # later chips overlap the stretch up to its end
        begin = hit.phase + CHIP_FRAMES * hit.first
        scores[begin : begin + CHIP_FRAMES * (hit.last - hit.first)] = 0  # or it would be found for ever
        hit = best_hit(scores, pattern)
        if hit.p_value > threshold:
            break
        word = read(scores, pattern, hit).word
    return _joined(found)


def _joined(segments: list[tuple[float, float]]) -> tuple[tuple[float, float], ...]:
    joined: list[tuple[float, float]] = []
    for start, end in sorted(segments):
        if joined and start - joined[-1][1] < _GAP:
            joined[-1] = (joined[-1][0], max(end, joined[-1][1]))
        else:
            joined.append((start, end))
    return tuple(joined)
