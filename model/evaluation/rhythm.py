"""Does music go on at the same pace: which intervals between notes do two clips have in common?

Three seconds hold too few beats for a tempo, but a dozen notes. The intervals between the onsets of successive notes,
as a distribution over a logarithmic scale (IOI histogram: Gouyon et al., "Evaluating rhythmic descriptors for musical
genre classification", AES 2004), say how fast they follow each other and in which mixture of long and short. Two
distributions are compared by their overlap (histogram intersection: Swain & Ballard, "Color indexing", 1991).

What the measure is worth, on 121 held-out clips of rendered piano, 3 s against the next 5: a true continuation scores
0.62, another piece 0.24, and the true one scores higher in 88 % of pairs (85 to 91; AUC 0.85). Onsets known from the
score in place of heard ones would give 0.88, prompts of 6 s 0.91; correlating autocorrelations or tempograms of the
onset strength gave 0.80 and 0.82. It hears tempo: the true continuation played 5 % slower or faster scores 0.60 and
0.58, 10 % 0.54 and 0.51, 25 % 0.33, half as fast again no more than another piece.

Decisions held here: how a note's onset is found; 10 % of tempo count as rubato, not as another tempo; twice as fast
is another tempo. Knows waveforms [N] at 16 kHz only.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter1d
from scipy.signal import find_peaks

from model.evaluation.spectral import Waveform, log_mel

ONSET_WINDOW, ONSET_MELS = 512, 40
ONSET_RATE = 125.0  # onset strengths per second: a quarter of the window is 128 samples
EDGE = 2  # frames at each end whose windows reach over it: where a clip is cut, nothing begins
ONSET_SMOOTHING = 2.0  # frames, 16 ms
ONSET_PROMINENCE = 0.025  # decades of magnitude, mean over bands: what rises less is more often noise
CLOSEST_ONSETS = 6  # frames, 48 ms: notes closer than this are a chord
SHORTEST, LONGEST = 0.05, 2.5  # seconds: intervals beyond count as these
INTERVAL_STEPS = 80  # places of the distribution
RUBATO = 0.15  # octaves, about 10 %: how far each interval is spread


def onset_times(waveform: Waveform) -> NDArray[np.float64]:
    """When notes begin, in seconds, [notes]: peaks of the rise of log-mel energy (Dixon, "Onset detection revisited",
    DAFx 2006). On rendered piano, within 50 ms: F 0.85."""
    picture = log_mel(waveform, ONSET_WINDOW, ONSET_MELS)[:, EDGE:-EDGE]
    strength = np.maximum(np.diff(picture, axis=1), 0.0).mean(axis=0).astype(np.float64)
    smooth = gaussian_filter1d(strength, ONSET_SMOOTHING)
    peaks, _ = find_peaks(smooth, prominence=ONSET_PROMINENCE, distance=CLOSEST_ONSETS)
    return np.asarray((peaks + EDGE) / ONSET_RATE)


def intervals(waveform: Waveform) -> NDArray[np.float64]:
    """Distribution of the time from each note to the next, 0.05 to 2.5 s on a logarithmic scale, [80], sum 1.

    All zeros where fewer than two notes are heard.
    """
    gaps = np.log2(np.clip(np.diff(onset_times(waveform)), SHORTEST, LONGEST))
    places = np.linspace(np.log2(SHORTEST), np.log2(LONGEST), INTERVAL_STEPS)
    spread = np.exp(-0.5 * ((places[:, None] - gaps) / RUBATO) ** 2).sum(axis=1)
    return np.asarray(spread / max(float(spread.sum()), 1e-12))


def overlap(prompt: NDArray[np.float64], continuation: NDArray[np.float64]) -> float:
    """The share of two distributions [80] that is in both: 1 for the same pace, 0 where no interval is shared.

    nan where the prompt has no interval to keep; 0 where only the continuation has none.
    """
    return float(np.minimum(prompt, continuation).sum()) if prompt.any() else float("nan")
