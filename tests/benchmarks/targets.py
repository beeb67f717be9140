"""What the README promises of speed, judged by what this run measured. A target without a measurement is left out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

Row = Mapping[str, Any]
Found = Mapping[str, Sequence[Row]]  # section -> rows


def judge(found: Found) -> list[dict[str, Any]]:
    """One row per target, with what was measured and whether that is enough."""
    return [
        {
            "target": target,
            "measured": measured,
            "relation": relation,
            "wanted": wanted,
            "met": measured >= wanted if relation == "at least" else measured <= wanted,
        }
        for target, measured, relation, wanted in _measured(found)
    ]


def _measured(found: Found) -> Iterator[tuple[str, float, str, float]]:
    for row in _of(found, "peers"):
        if "ours_over_theirs" not in row or row["device"] != "cpu":
            continue
        name, batch, ratio = row["peer"], row["batch"], row["ours_over_theirs"]
        if name == "audiolm-pytorch" and batch == 1:
            yield "audio s/s over audiolm-pytorch, one caller", ratio, "at least", 30.0
        elif name == "audiolm-pytorch":
            yield f"audio s/s over audiolm-pytorch, {batch} callers in its batch", ratio, "at least", 100.0
        elif name.startswith("transformers"):
            yield f"audio s/s over {name}, batch {batch}", ratio, "at least", 1.0
    yield from _one_after_another(found)
    for row in _of(found, "codecs"):
        if row["codec"].startswith("EnCodec") and "times_ours" in row and row["device"] == "cpu":
            yield f"codec over {row['codec']}", row["times_ours"], "at least", 5.0
    for row in _of(found, "continuation"):
        yield from _waits(row)
    for row in _of(found, "stages"):
        if row["batch"] == 1 and row.get("stage") in ("semantic", "coarse") and "of_memory_limit" in row:
            what = f"{row['system']}, {row['device']}: {row['stage']} step, batch 1, of the memory's limit"
            yield what, row["of_memory_limit"], "at least", 0.5


def _one_after_another(found: Found) -> Iterator[tuple[str, float, str, float]]:
    """audiolm-pytorch has no batching of callers: eight of them, served in turn, get what one gets."""
    rows = [r for r in _of(found, "peers") if r["device"] == "cpu" and "audio_seconds_per_second" in r]
    ours = [r["audio_seconds_per_second"] for r in rows if r["peer"] == "ours" and r["batch"] == 8]
    alone = [
        r["audio_seconds_per_second"] for r in rows if r["peer"] == "audiolm-pytorch" and r["batch"] == 1
    ]
    if ours and alone:
        yield (
            "audio s/s over audiolm-pytorch, 8 callers one after another",
            ours[0] / alone[0],
            "at least",
            100.0,
        )


def _waits(row: Row) -> Iterator[tuple[str, float, str, float]]:
    shipped_cpu = row["system"] in ("shipped", "starter") and row["device"] == "cpu"
    base_cuda = row["system"] == "base" and row["device"] == "cuda"
    name = f"{row['system']}, {row['device']}"
    for run in row.get("lengths", ()):
        if shipped_cpu or base_cuda:
            wanted = 0.25 if shipped_cpu else 0.03
            factor = run["real_time_factor"]["median"]
            yield f"{name}: real-time factor alone, {run['seconds']:g} s", factor, "at most", wanted
        if base_cuda:
            yield f"{name}: first audio, seconds", run["first_audio_seconds"]["median"], "at most", 0.06
    for run in row.get("together", ()):
        if shipped_cpu and run["callers"] == 8:
            yield f"{name}: real-time factor per caller of 8", run["real_time_factor"], "at most", 0.08
        if base_cuda and run["callers"] == 64:
            yield f"{name}: audio s/s at 64 callers", run["audio_seconds_per_second"], "at least", 300.0


def _of(found: Found, section: str) -> Sequence[Row]:
    return found.get(section, ())
