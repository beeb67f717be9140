"""The attack battery: what the watermark and the classifier still know of a clip after something happened to it.

The watermark is judged on marked generations, the classifier on the same ones unmarked, both on recordings that went
through the same attack. Decisions held here: every number depends on the seed alone, whatever else is measured; the
classifier's thresholds for a false-positive rate are taken from all attacked recordings of that duration together;
the watermark needs none, its p-value is held to what it says.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from model.config import SAMPLE_RATE
from model.detector import Detector
from model.distortions.distortion import Distortion
from model.distortions.splicing import splice
from model.evaluation.discrimination import auc, calibration_error, equal_error_rate, upper_bound
from model.evaluation.provenance_material import Sounds
from model.evaluation.segments import overlap, seconds_inside
from model.evaluation.spectral import Waveform
from model.timeline import ClipEvidence
from model.watermark import MAX_PAYLOAD, Mark, WatermarkKey, embed, find

CLEAN = "clean"
BATTERY_SECONDS = 5.0  # every attack at this duration; at the others, those of PROMISED
PROMISED = (
    CLEAN,
    "mp3_64k",
    "aac_64k",
    "opus_24k",
    "resampling_8000",
    "crop_60%",
    "gain_-6dB",
    "equalizer_6dB",
    "mu_law",
)
RATES = (1e-2, 1e-3)

Scores = npt.NDArray[np.float64]
Tick = Callable[[str], None]


@dataclass(frozen=True)
class Cell:
    """One attack at one duration. Arrays are of one length per class; `made`, `recorded`: probabilities of the
    classifier, empty without one."""

    marks: list[Mark]
    payloads: list[int]
    false_marks: list[Mark]
    made: Scores
    recorded: Scores


class Judges:
    """The watermark with its key, and the classifier if there is one."""

    def __init__(self, key: WatermarkKey, detector: Detector | None) -> None:
        self.key, self.detector = key, detector

    def mark(self, waveform: Waveform) -> Mark:
        return find(waveform, [self.key])

    def evidence(self, waveform: Waveform) -> ClipEvidence | None:
        if self.detector is None:
            return None
        windows, spans = self.detector.windows_of(waveform)
        return self.detector.aggregate(self.detector.judge(windows), spans)

    def probabilities(self, waveforms: Sequence[Waveform]) -> Scores:
        evidence = [self.evidence(waveform) for waveform in waveforms]
        return np.array([found.probability for found in evidence if found is not None])


def battery(
    sounds: Sounds,
    attacks: Mapping[str, Distortion],
    judges: Judges,
    durations: Sequence[float],
    seed: int,
    tick: Tick,
) -> dict[str, Any]:
    """{"5": {"clean": {...}, "mp3_64k": {...}}, "1": ...}: the rows of every attack at every duration."""
    results: dict[str, Any] = {}
    for seconds in durations:
        names = [CLEAN, *attacks]
        if seconds != BATTERY_SECONDS and BATTERY_SECONDS in durations:
            names = [name for name in names if name in PROMISED]
        cells = {}
        for name in names:
            tick(f"{name}, {seconds:g} s")
            cells[name] = _cell(sounds, name, attacks.get(name), judges, seconds, seed)
        pooled = np.concatenate([cell.recorded for cell in cells.values()])
        thresholds = {rate: threshold_at(pooled, rate) for rate in RATES}
        results[f"{seconds:g}"] = {
            name: {"watermark": _watermark_row(cell)}
            | ({"classifier": _classifier_row(cell, thresholds)} if len(cell.made) else {})
            for name, cell in cells.items()
        }
    return results


def _cell(
    sounds: Sounds, name: str, attack: Distortion | None, judges: Judges, seconds: float, seed: int
) -> Cell:
    marks, payloads, false_marks = [], [], []
    made, recorded = [], []
    length = round(seconds * SAMPLE_RATE)
    for i, (ours, theirs) in enumerate(zip(sounds.made, sounds.recorded, strict=True)):
        rng = np.random.default_rng([seed, i, length])
        payload = int(rng.integers(MAX_PAYLOAD + 1))
        start = int(rng.integers(len(ours) - length + 1))
        marked = embed(ours, judges.key, payload)[start : start + length]
        own_seed = [seed, i, length, zlib.crc32(name.encode())]

        def attacked(waveform: Waveform, own_seed: list[int] = own_seed) -> Waveform:
            return waveform if attack is None else attack(waveform, np.random.default_rng(own_seed))

        negative = attacked(theirs[start : start + length])
        marks.append(judges.mark(attacked(marked)))
        payloads.append(payload)
        false_marks.append(judges.mark(negative))
        if judges.detector is not None:
            made.append(attacked(ours[start : start + length]))
            recorded.append(negative)
    return Cell(marks, payloads, false_marks, judges.probabilities(made), judges.probabilities(recorded))


def threshold_at(negatives: Scores, rate: float) -> float:
    """The lowest threshold that at most a share `rate` of the negatives lies above; nan without any."""
    if len(negatives) == 0:
        return math.nan
    allowed = math.floor(rate * len(negatives) + 1e-9)
    return float(np.sort(negatives)[len(negatives) - 1 - allowed])


def surprise(marks: Sequence[Mark]) -> Scores:
    """-log10 of the p-values."""
    return -np.log10(np.maximum([mark.p_value for mark in marks], 1e-300))


def _watermark_row(cell: Cell) -> dict[str, Any]:
    positives, negatives = surprise(cell.marks), surprise(cell.false_marks)
    told = [mark.payload for mark in cell.marks]
    right = [payload == truth for payload, truth in zip(told, cell.payloads, strict=True)]
    return {
        "clips": len(positives),
        "tpr": {f"{rate:g}": float((positives >= -math.log10(rate)).mean()) for rate in RATES},
        "found": float(np.mean([mark.present for mark in cell.marks])),
        "payload_right": float(np.mean(right)),
        "payload_wrong": float(np.mean([payload is not None for payload in told]) - np.mean(right)),
        "false_positives": {f"{rate:g}": float((negatives >= -math.log10(rate)).mean()) for rate in RATES},
        "falsely_found": float(np.mean([mark.present for mark in cell.false_marks])),
        "auc": auc(positives, negatives).mean,
        "eer": equal_error_rate(positives, negatives),
    }


def _classifier_row(cell: Cell, thresholds: Mapping[float, float]) -> dict[str, Any]:
    both = np.concatenate([cell.made, cell.recorded])
    labels = np.arange(len(both)) < len(cell.made)
    return {
        "clips": len(cell.made),
        "tpr": {f"{rate:g}": float((cell.made > thresholds[rate]).mean()) for rate in RATES},
        "false_positives": {f"{rate:g}": float((cell.recorded > thresholds[rate]).mean()) for rate in RATES},
        "auc": auc(cell.made, cell.recorded).mean,
        "eer": equal_error_rate(cell.made, cell.recorded),
        "calibration_error": calibration_error(both, labels),
    }


def false_positives(pieces: Iterable[Waveform], judges: Judges, tick: Tick) -> dict[str, Any]:
    """The watermark on recordings, unattacked: how often each level is reached, and how uniform p-values are."""
    values = []
    for i, piece in enumerate(pieces):
        tick(f"recording {i + 1}")
        values.append(judges.mark(piece).p_value)
    levels = np.sort(np.array(values))
    count = len(levels)
    rates = {}
    for rate in (1e-1, *RATES, 1e-4):
        events = int((levels <= rate).sum())
        rates[f"{rate:g}"] = {"events": events, "upper_bound": upper_bound(events, count)}
    steps = np.arange(1, count + 1) / max(1, count)
    distance = float(np.max(np.abs(levels - steps + 0.5 / max(1, count)))) if count else math.nan
    return {"clips": count, "rates": rates, "distance_from_uniform": distance}


def keys(sounds: Sounds, judges: Judges, seconds: float, seed: int) -> dict[str, Any]:
    """Our marks under another key, and a stranger's mark that carries one of our payloads, on their recordings."""
    rng = np.random.default_rng([seed, 77])
    stranger = WatermarkKey(rng.bytes(32))
    length = round(seconds * SAMPLE_RATE)
    wrong = [find(embed(made, judges.key, 5)[:length], [stranger]).p_value for made in sounds.made]
    forged = [judges.mark(embed(their, stranger, 5)[:length]).p_value for their in sounds.recorded]
    return {
        name: {"clips": len(values), "lowest_p_value": min(values), "found": sum(p <= 1e-4 for p in values)}
        for name, values in (("wrong key", wrong), ("forged payload", forged))
    }


def segments(
    sounds: Sounds, attacks: Mapping[str, Distortion], judges: Judges, seed: int, tick: Tick
) -> dict[str, Any]:
    """Which seconds are ours: intersection over union of the seconds told and the true ones, and how much of the
    recorded part is told to be ours, for three ways to put clips together."""
    shapes = {  # name: (seconds recorded before, ours, recorded after)
        "3 s recorded + 5 s ours": (3.0, 5.0, 0.0),
        "2 s recorded + 4 s ours + 4 s recorded": (2.0, 4.0, 4.0),
        "1 s ours in 10 s recorded": (6.0, 1.0, 3.0),
    }
    results: dict[str, Any] = {}
    for shape, (before, ours, after) in shapes.items():
        for name in (CLEAN, "mp3_64k", "opus_24k"):
            if name != CLEAN and name not in attacks:
                continue
            tick(f"{shape}, {name}")
            rows: dict[str, list[tuple[float, float]]] = {"watermark": [], "classifier": []}
            for i, made in enumerate(sounds.made):
                host = _host(sounds, i, before + ours + after)
                own = made[: round(ours * SAMPLE_RATE)]
                marked = embed(own, judges.key, i)
                for layer, sound in (("watermark", marked), ("classifier", own)):
                    if layer == "classifier" and judges.detector is None:
                        continue
                    whole, (first, last) = splice(sound, host, round(before * SAMPLE_RATE))
                    if name != CLEAN:
                        whole = attacks[name](whole, np.random.default_rng([seed, i]))
                    told = _told(judges, layer, whole)
                    truth = (first / SAMPLE_RATE, last / SAMPLE_RATE)
                    outside = [(0.0, truth[0]), (truth[1], len(whole) / SAMPLE_RATE)]
                    wrong = sum(seconds_inside(told, span) for span in outside)
                    rows[layer].append((overlap(told, [truth]), wrong / (before + after)))
            results[f"{shape}, {name}"] = {
                layer: {
                    "clips": len(values),
                    "iou": float(np.mean([iou for iou, _ in values])),
                    "iou_at_least_0.8": float(np.mean([iou >= 0.8 for iou, _ in values])),
                    "recorded_told_as_ours": float(np.mean([wrong for _, wrong in values])),
                }
                for layer, values in rows.items()
                if values
            }
    return results


def _told(judges: Judges, layer: str, waveform: Waveform) -> Sequence[tuple[float, float]]:
    if layer == "watermark":
        return judges.mark(waveform).segments
    evidence = judges.evidence(waveform)
    return () if evidence is None else evidence.segments


def _host(sounds: Sounds, number: int, seconds: float) -> Waveform:
    """A recording of `seconds`, repeated where it is shorter."""
    recording = sounds.recorded[number]
    return np.resize(recording, round(seconds * SAMPLE_RATE)).astype(np.float32)
