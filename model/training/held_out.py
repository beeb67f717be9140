"""Held-out sound that the detector is calibrated and measured on: whole tracks, windows and clips of them.

Decisions held here: tracks are takes and recordings of another split than was trained on, unmarked; recordings come
from speakers in turn. Windows and clips of a track do not overlap; near-silent ones are left out, whoever made them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from model.config import SAMPLE_RATE
from model.training.data import AudioStore
from model.training.takes import Samples, TakeStore
from model.training.window_draw import QUIET

LONGEST_TRACK_SECONDS = 24.0


@dataclass(frozen=True)
class Track:
    """waveform [N]. origin: as a take's, "raw", or "answer" (prompt and continuation, from sample `ours_from` on ours).
    depth: codebooks, of the codec's takes."""

    origin: str
    kind: str
    speaker: str
    waveform: Samples
    depth: int = 0
    ours_from: int = 0


def tracks_of(audio: AudioStore, takes: TakeStore, recordings: int) -> list[Track]:
    """All takes, the answers they belong to, and pieces of as many as `recordings` recordings."""
    at = {recording.key: index for index, recording in enumerate(audio.files)}
    tracks = []
    for index, take in enumerate(takes.takes):
        waveform = takes.waveform(index)
        tracks.append(Track(take.origin, take.kind, take.speaker, waveform, take.depth))
        if take.origin == "continued":
            prompt = audio.waveform(at[take.key])[take.start : take.start + take.prompt_samples]
            answer = np.concatenate([prompt, waveform])
            tracks.append(Track("answer", take.kind, take.speaker, answer, ours_from=take.prompt_samples))
    most = round(LONGEST_TRACK_SECONDS * SAMPLE_RATE)
    for index in in_turn(audio, recordings):
        recording = audio.files[index]
        tracks.append(Track("raw", recording.kind, recording.speaker, audio.waveform(index)[:most]))
    return tracks


def in_turn(audio: AudioStore, count: int) -> list[int]:
    """At most `count` recordings, one of each speaker per round, kinds in turn."""
    queues: dict[str, dict[str, list[int]]] = {}
    for index, recording in enumerate(audio.files):
        queues.setdefault(recording.kind, {}).setdefault(recording.speaker, []).append(index)
    orders = []
    for speakers in queues.values():
        longest = max(len(indices) for indices in speakers.values())
        rounds = range(longest)
        orders.append([indices[n] for n in rounds for indices in speakers.values() if n < len(indices)])
    chosen = [order[n] for n in range(max(map(len, orders))) for order in orders if n < len(order)]
    return chosen[:count]


def pieces(tracks: Sequence[Track], seconds: float) -> list[Samples]:
    """All pieces of `seconds` that lie side by side in the tracks, without near-silent ones."""
    length = round(seconds * SAMPLE_RATE)
    found = []
    for track in tracks:
        for start in range(0, len(track.waveform) - length + 1, length):
            piece = track.waveform[start : start + length]
            if np.sqrt(np.mean(np.square(piece))) >= QUIET:
                found.append(piece)
    return found


def by_origin(tracks: Sequence[Track]) -> Mapping[str, list[Track]]:
    """Tracks of each origin; "full codec": those of the codec at its full depth."""
    deepest = max((track.depth for track in tracks), default=0)
    found: dict[str, list[Track]] = {}
    for track in tracks:
        found.setdefault(track.origin, []).append(track)
        if track.origin == "codec" and track.depth == deepest:
            found.setdefault("full codec", []).append(track)
    return found
