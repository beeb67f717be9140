"""From a clip to windows, and from what was said of each window to what is said of the clip.

Decisions held here: windows begin every hop, and the last one ends with the clip; a clip shorter than a window is one
window. The clip's evidence is that of its most suspicious stretch: over all stretches of consecutive windows, the mean
of their log-odds times the number of windows' worth of sound they cover, so that long agreement counts for more than
one window, and real sound before and after does not count against it. Where a segment begins and ends is read from
the half-seconds that windows are centred on. Knows no network and no tensors.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from model.config import SAMPLE_RATE

Samples = npt.NDArray[np.float32]
Span = tuple[float, float]  # seconds

LEAST_STRETCH = 3  # windows: one alone is wrong too often
LARGEST_LOG_ODDS = 7.0  # more than a window can know
LARGEST_EVIDENCE = 12.0  # of a clip: a probability of 0.999994
SEGMENT_PROBABILITY = 0.5  # of a half-second that belongs to a segment
LEAST_SEGMENT_SECONDS = 1.0  # shorter ones are left out, shorter gaps are closed


@dataclass(frozen=True)
class ClipEvidence:
    """What a clip's windows say together. segments: where the sound is likelier ours than not, in seconds."""

    probability: float
    segments: tuple[Span, ...]


def windows_of(
    waveform: Samples, window_seconds: float, hop_seconds: float
) -> tuple[list[Samples], list[Span]]:
    """waveform [N] -> windows [n] of equal length and the seconds that each covers."""
    length = min(len(waveform), round(window_seconds * SAMPLE_RATE))
    hop = round(hop_seconds * SAMPLE_RATE)
    starts = list(range(0, len(waveform) - length + 1, hop))
    if starts[-1] + length < len(waveform):
        starts.append(len(waveform) - length)
    windows = [waveform[start : start + length] for start in starts]
    return windows, [(start / SAMPLE_RATE, (start + length) / SAMPLE_RATE) for start in starts]


def aggregate(
    probabilities: Sequence[float], spans: Sequence[Span], hop_seconds: float = 0.5
) -> ClipEvidence:
    """Windows' probabilities and spans, in order of time -> the clip's. No window: no evidence."""
    if not probabilities:
        return ClipEvidence(0.0, ())
    clipped = np.clip(np.asarray(probabilities, np.float64), 1e-9, 1 - 1e-9)
    odds = np.clip(np.log(clipped / (1 - clipped)), -LARGEST_LOG_ODDS, LARGEST_LOG_ODDS)
    evidence = _most_suspicious(odds, np.asarray(spans))
    evidence = max(-LARGEST_EVIDENCE, min(LARGEST_EVIDENCE, evidence))
    return ClipEvidence(1 / (1 + math.exp(-evidence)), _segments(odds, spans, hop_seconds))


def _most_suspicious(odds: npt.NDArray[np.float64], spans: npt.NDArray[np.float64]) -> float:
    """The largest evidence of any stretch of at least LEAST_STRETCH windows, in log-odds."""
    sums = np.concatenate([[0.0], np.cumsum(odds)])
    window = spans[0, 1] - spans[0, 0]
    best = -math.inf
    for count in range(min(LEAST_STRETCH, len(odds)), len(odds) + 1):
        means = (sums[count:] - sums[:-count]) / count
        worth = (spans[count - 1 :, 1] - spans[: len(spans) - count + 1, 0]) / window
        best = max(best, float(np.max(means * worth)))
    return best


def _segments(odds: npt.NDArray[np.float64], spans: Sequence[Span], hop_seconds: float) -> tuple[Span, ...]:
    """Runs of hops whose windows, those centred there counting most, find them ours."""
    end = spans[-1][1]
    edges = [*np.arange(0.0, end - hop_seconds / 2, hop_seconds), end]
    half = (spans[0][1] - spans[0][0]) / 2
    middles = np.array([(start + stop) / 2 for start, stop in spans])
    limit = math.log(SEGMENT_PROBABILITY / (1 - SEGMENT_PROBABILITY))
    found: list[Span] = []
    for start, stop in pairwise(edges):
        center = min(max((start + stop) / 2, middles[0]), middles[-1])
        weights = np.maximum(0.0, 1 - np.abs(middles - center) / (half / 2))
        if weights.sum() == 0 or weights @ odds / weights.sum() < limit:
            continue
        if found and start - found[-1][1] < LEAST_SEGMENT_SECONDS:
            found[-1] = (found[-1][0], float(stop))
        else:
            found.append((float(start), float(stop)))
    longest = min(LEAST_SEGMENT_SECONDS, end)
    return tuple(span for span in found if span[1] - span[0] >= longest)
