"""What was measured, as Markdown tables for people. The same values go into the JSON file, unrounded.

Every row that could not be measured is in the table, with the reason. Knows no measurement; it takes plain values.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

Row = Mapping[str, Any]
GIGA, MEBI, GIBI = 1e9, 2**20, 2**30


def number(value: float | None) -> str:
    """Three significant digits, without an exponent."""
    if value is None:
        return ""
    size = abs(value)
    if size >= 100:
        return f"{value:,.0f}".replace(",", " ")
    if size >= 10:
        return f"{value:.1f}"
    return f"{value:.2f}" if size >= 1 else f"{value:.3g}"


def percent(value: float | None) -> str:
    return "" if value is None else f"{value:.0%}"


def table(columns: Mapping[str, Callable[[Row], str]], rows: Sequence[Row]) -> str:
    """A Markdown table. A row with `skipped`, `missing` or `failed` shows that in the cells it cannot fill."""
    lines = ["| " + " | ".join(columns) + " |", "|" + "---|" * len(columns)]
    for row in rows:
        reason = next(
            (row[key] for key in ("skipped", "missing", "failed") if isinstance(row.get(key), str)), None
        )
        cells = []
        for cell in columns.values():
            try:
                cells.append(cell(row))
            except (KeyError, TypeError):
                cells.append("-")
        if reason is not None:
            cells[-1] = reason
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def conditions(found: Row) -> str:
    """A paragraph on the machine and its load."""
    versions = ", ".join(
        f"{name} {version or 'not installed'}" for name, version in found["versions"].items()
    )
    lines = [
        f"{found['time']}; {found['machine']}; {found['cores']} cores ({found['cores_allowed']} allowed), "
        f"{found['threads']} torch threads, load average {found['load_average']}, {found['core_share']:.0%} of a core "
        "for the asking, "
        f"{found['memory_available_gib']} GiB free; Python {found['python']}, torch {found['torch']} "
        f"({found['capability']}); {versions}.",
        f"GPU: {found['gpu'] or 'none'}. Clock: {found['clock']}.",
    ]
    if found["busy"]:
        lines.append("**Others kept this machine busy: the figures are lower than it can do.**")
    return "\n".join(lines)


def limits(rows: Sequence[Row]) -> str:
    return table(
        {
            "device": lambda r: r["device"],
            "memory GB/s": lambda r: number(r["bandwidth"] / GIGA),
            "fp32 GFLOP/s": lambda r: number(r["rates"]["float32"] / GIGA),
            "bf16 GFLOP/s": lambda r: number(r["rates"]["bfloat16"] / GIGA),
            "int8 GOP/s": lambda r: number(r["rates"]["int8"] / GIGA),
        },
        rows,
    )


def stages(rows: Sequence[Row]) -> str:
    return table(
        {
            "system": lambda r: r["system"],
            "device": lambda r: r["device"],
            "batch": lambda r: number(r["batch"]).removesuffix(".00").removesuffix(".0"),
            "stage": lambda r: r["stage"],
            "steps/s": lambda r: number(r["steps_per_second"]),
            "spread": lambda r: percent(r["spread"]),
            "audio s/s": lambda r: number(r["audio_seconds_per_second"]),
            "weights": lambda r: r["weights"],
            "MiB/step": lambda r: number(r["bytes_per_step"] / MEBI),
            "GFLOP/step": lambda r: number(r["operations_per_step"] / GIGA),
            "of the limit": lambda r: f"{percent(r['of_limit'])} ({r['bound_by']})",
            "of memory's": lambda r: percent(r["of_memory_limit"]),
        },
        rows,
    )


def continuations(rows: Sequence[Row]) -> str:
    flat: list[Row] = []
    for row in rows:
        if "failed" in row:
            flat.append(row)
            continue
        head = {"system": row["system"], "device": row["device"]}
        for run in row["lengths"]:
            flat.append({**row, **head, "callers": 1, **run, "skipped": None})
        for run in row["together"]:
            flat.append({**head, **run})
        flat += [{**head, "skipped": reason} for reason in row["skipped"]]
    return table(
        {
            "system": lambda r: r["system"],
            "device": lambda r: r["device"],
            "callers": lambda r: str(r["callers"]),
            "seconds": lambda r: number(r["seconds"]),
            "real-time factor": lambda r: number(_median(r["real_time_factor"])),
            "audio s/s": lambda r: number(1 / _median(r["real_time_factor"])),
            "first audio s": lambda r: number(
                _median(r.get("first_audio_seconds") or r["first_audio_wall_seconds"])
            ),
            "peak memory GiB": lambda r: number(r["peak_memory_bytes"] / GIBI),
            "on the device": lambda r: number(r["peak_device_bytes"] and r["peak_device_bytes"] / GIBI),
            "ready after s": lambda r: number(r["ready_seconds"]),
        },
        flat,
    )


def peers(rows: Sequence[Row]) -> str:
    return table(
        {
            "system": lambda r: r["system"],
            "device": lambda r: r["device"],
            "batch": lambda r: str(r["batch"]),
            "who": lambda r: r["peer"],
            "timed s of sound": lambda r: f"{r['batch']} x {number(r['seconds'])}",
            "semantic steps/s": lambda r: number(r["steps_per_second"].get("semantic")),
            "coarse": lambda r: number(r["steps_per_second"].get("coarse")),
            "fine": lambda r: number(r["steps_per_second"].get("fine")),
            "audio s/s": lambda r: number(r["audio_seconds_per_second"]),
            "spread": lambda r: percent(r["spread"]),
            "ours is faster by": lambda r: f"{number(r['ours_over_theirs'])}x",
        },
        rows,
    )


def codecs(rows: Sequence[Row]) -> str:
    return table(
        {
            "codec": lambda r: r["codec"],
            "device": lambda r: r["device"],
            "batch": lambda r: str(r["rows"]),
            "million values": lambda r: number(r["parameters"] / 1e6),
            "encode RTF": lambda r: number(r["encode_real_time_factor"]),
            "decode RTF": lambda r: number(r["decode_real_time_factor"]),
            "both, times the first": lambda r: f"{number(r['times_ours'])}x",
        },
        rows,
    )


def provenance(rows: Sequence[Row]) -> str:
    return table(
        {
            "work": lambda r: r["work"],
            "device": lambda r: r["device"],
            "of sound s": lambda r: number(r["seconds"]),
            "takes s": lambda r: number(r["run_seconds"]["median"]),
            "spread": lambda r: percent(r["spread"]),
            "times real time": lambda r: number(r["times_real_time"]),
        },
        rows,
    )


def targets(rows: Sequence[Row]) -> str:
    return table(
        {
            "target": lambda r: r["target"],
            "measured": lambda r: number(r["measured"]),
            "wanted": lambda r: f"{r['relation']} {number(r['wanted'])}",
            "met": lambda r: "yes" if r["met"] else "NO",
        },
        rows,
    )


def _median(value: float | Row) -> float:
    return value["median"] if isinstance(value, Mapping) else value
