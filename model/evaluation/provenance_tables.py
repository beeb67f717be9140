"""From the numbers of `audiolm evaluate provenance` to its tables."""

from __future__ import annotations

from typing import Any

from model.evaluation.provenance import BATTERY_SECONDS, RATES
from model.evaluation.table import Table, number, percent

NO_CLASSIFIER = "no detector in this bundle"


def provenance_tables(results: dict[str, Any]) -> list[Table]:
    """Every table that `results` (from `provenance_command.measure`) has numbers for."""
    by_seconds = results["battery"]
    most = max(by_seconds, key=lambda seconds: (len(by_seconds[seconds]), seconds == f"{BATTERY_SECONDS:g}"))
    found = [watermark_table(most, by_seconds[most]), classifier_table(most, by_seconds[most])]
    if len(by_seconds) > 1:
        found.append(duration_table(by_seconds))
    found += [false_positive_table(results["false_positives"], results["keys"])]
    found.append(imperceptibility_table(results["imperceptibility"]))
    found.append(segment_table(results["segments"]))
    return found


def watermark_table(seconds: str, rows: dict[str, Any]) -> Table:
    cells = []
    for name, layers in rows.items():
        row = layers["watermark"]
        cells.append(
            (
                name,
                *(percent(row["tpr"][f"{rate:g}"]) for rate in RATES),
                percent(row["found"]),
                number(row["auc"], 3),
                percent(row["eer"], 1),
                percent(row["payload_right"]),
                percent(row["payload_wrong"]),
                *(percent(row["false_positives"][f"{rate:g}"], 1) for rate in RATES),
            )
        )
    columns = ("attack", "p ≤ 1e-2", "p ≤ 1e-3", "found (p ≤ 1e-4)", "AUC", "EER", "payload right", "payload wrong",
               "recordings p ≤ 1e-2", "p ≤ 1e-3")  # fmt: skip
    clips = _clips(rows, "watermark")
    return Table(
        f"Watermark on clips of {seconds} s",
        columns,
        cells,
        f"{clips} marked generations and as many recordings for each attack.",
    )


def classifier_table(seconds: str, rows: dict[str, Any]) -> Table:
    columns = ("attack", "found at 1e-2", "at 1e-3", "AUC", "EER", "calibration error",
               "recordings at 1e-2", "at 1e-3")  # fmt: skip
    cells = []
    for name, layers in rows.items():
        if "classifier" not in layers:
            cells.append((name, NO_CLASSIFIER, *[number(None)] * (len(columns) - 2)))
            continue
        row = layers["classifier"]
        cells.append(
            (
                name,
                *(percent(row["tpr"][f"{rate:g}"]) for rate in RATES),
                number(row["auc"], 3),
                percent(row["eer"], 1),
                number(row["calibration_error"], 3),
                *(percent(row["false_positives"][f"{rate:g}"], 1) for rate in RATES),
            )
        )
    note = "Unmarked generations; thresholds from the recordings of all attacks together."
    return Table(f"Classifier on clips of {seconds} s", columns, cells, note)


def duration_table(by_seconds: dict[str, Any]) -> Table:
    durations = sorted(by_seconds, key=float)
    shared = [name for name in by_seconds[durations[0]] if all(name in by_seconds[d] for d in durations)]
    cells = []
    for name in shared:
        for layer in ("watermark", "classifier"):
            if layer not in by_seconds[durations[0]][name]:
                continue
            shares = [percent(by_seconds[d][name][layer]["tpr"][f"{RATES[-1]:g}"]) for d in durations]
            cells.append((f"{name}, {layer}", *shares))
    columns = ("found at 1e-3", *(f"{seconds} s" for seconds in durations))
    return Table("By duration", columns, cells)


def false_positive_table(values: dict[str, Any], keys: dict[str, Any]) -> Table:
    cells = [
        (f"recordings, p ≤ {level}", str(values["clips"]), str(row["events"]), f"{row['upper_bound']:.2g}")
        for level, row in values["rates"].items()
    ]
    cells += [
        (
            f"{name}, p ≤ 1e-4",
            str(row["clips"]),
            str(row["found"]),
            f"lowest p-value {row['lowest_p_value']:.2g}",
        )
        for name, row in keys.items()
    ]
    note = f"Largest distance of the p-values from uniform: {number(values['distance_from_uniform'], 3)}."
    return Table(
        "Watermark found where there is none",
        ("", "clips", "found", "95 % upper bound of the rate"),
        cells,
        note,
    )


def imperceptibility_table(values: dict[str, Any]) -> Table:
    rows = [("SNR, dB ↑", values["clips"], values["snr"], 1)]
    if values["pesq"] is not None:
        rows.append(("PESQ-WB ↑", values["pesq"]["clips"], values["pesq"], 2))
    cells = [
        (name, str(clips), number(row["mean"], digits), number(row["lowest"], digits))
        for name, clips, row, digits in rows
    ]
    return Table("Marked against unmarked generations", ("", "clips", "mean", "lowest"), cells)


def segment_table(values: dict[str, Any]) -> Table:
    cells = [
        (
            f"{name}, {layer}",
            str(row["clips"]),
            number(row["iou"], 3),
            percent(row["iou_at_least_0.8"]),
            percent(row["recorded_told_as_ours"], 1),
        )
        for name, layers in values.items()
        for layer, row in layers.items()
    ]
    columns = ("clip", "clips", "IoU", "IoU ≥ 0.8", "recorded seconds told as ours")
    return Table("Which seconds are ours", columns, cells)


def _clips(rows: dict[str, Any], layer: str) -> int:
    return int(next(iter(rows.values()))[layer]["clips"])
