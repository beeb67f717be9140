"""From the numbers of a run to the tables that people read, in Markdown and in the report."""

from __future__ import annotations

from typing import Any

from model.evaluation.suite import PIANO, SPEECH
from model.evaluation.table import Table, interval, number, percent

METRIC_TITLES = {
    "pesq": ("PESQ-WB ↑", 2),
    "stoi": ("STOI ↑", 3),
    "log_mel": ("log-mel distance ↓", 3),
    "chroma": ("chroma similarity ↑", 3),
    "si_sdr": ("SI-SDR, dB ↑", 1),
}


def tables(results: dict[str, Any]) -> list[Table]:
    """Every table that `results` (from `suite.evaluate`) has numbers for."""
    found: list[Table] = []
    if "codec" in results:
        found += codec_tables(results["codec"])
    if "tokens" in results:
        found.append(token_table(results["tokens"]))
    if "lm" in results:
        found += [perplexity_table(kind, values) for kind, values in results["lm"].items()]
    if "words" in results:
        found.append(word_table(results["words"]))
    if "continuation" in results:
        found += continuation_tables(results["continuation"])
    return found


def codec_tables(values: dict[str, Any]) -> list[Table]:
    missing = "; ".join(values["missing"])
    found = []
    for kind in (SPEECH, PIANO):
        if kind not in values:
            continue
        rows = values[kind]["rows"]
        metrics = [name for name in METRIC_TITLES if name in rows[0]]
        cells = []
        for row in rows:
            name = row["name"] if row["depth"] is None else f"{row['name']}, {row['depth']} levels"
            measures = [number(row[metric], METRIC_TITLES[metric][1]) for metric in metrics]
            cells.append((name, number(row["kbps"], 1), *measures))
        columns = ("", "kbit/s", *(METRIC_TITLES[metric][0] for metric in metrics))
        note = f"{values[kind]['clips']} test clips, {values[kind]['seconds']:.0f} s. {missing}".strip()
        found.append(Table(f"Codec on {kind}", columns, cells, note))
    use = values["use"]
    levels = range(1, len(use["codebook_use"]) + 1)
    rows = [
        ("codes in use", *(percent(share) for share in use["codebook_use"])),
        ("effective codes", *(number(value, 0) for value in use["perplexity"])),
    ]
    note = f"Counted over {use['frames']} frames of test recordings. Effective codes: exp(entropy)."
    found.append(Table("Codebook use by level", ("", *(str(level) for level in levels)), rows, note))
    return found


def token_table(values: dict[str, Any]) -> Table:
    rows = [("clusters in use ↑", percent(values["cluster_use"]), "–", "–")]
    titles = {
        "phones": ("phone named by a linear probe ↑", True),
        "notes": ("notes found by a linear probe (average precision) ↑", False),
        "speaker": ("speaker named by a linear probe ↓", True),
    }
    for name, (title, as_percent) in titles.items():
        if name in values["probes"]:
            probe = values["probes"][name]
            write = percent if as_percent else number
            chance = percent(probe["chance"]) if "chance" in probe else "–"
            rows.append((title, write(probe["semantic"]), write(probe["codec"]), chance))
    columns = ("", "semantic tokens", "codec, first level", "chance")
    note = (
        f"Clusters over {values['seconds']:.0f} s of test recordings. {'; '.join(values['missing'])}".strip()
    )
    return Table("What the semantic tokens hold", columns, rows, note)


def perplexity_table(kind: str, values: dict[str, Any]) -> Table:
    rows = [
        (
            stage,
            number(values[stage]["perplexity"], 1),
            number(values[stage]["previous"], 1),
            number(values[stage]["unigram"], 1),
            str(values[stage]["tokens"]),
        )
        for stage in ("semantic", "coarse", "fine")
    ]
    columns = ("stage", "perplexity ↓", "previous token", "unigram", "tokens")
    return Table(f"Perplexity of the stages on {kind}", columns, rows, f"{values['clips']} test clips.")


def word_table(values: dict[str, Any]) -> Table:
    if "missing" in values:
        return Table("Spot the real word", ("", "accuracy"), [("not measured", "–")], values["missing"])
    rows = [
        ("real word likelier, voices never heard ↑", interval(values["accuracy"], as_percent=True)),
        ("real word likelier, voices of the training ↑", interval(values["heard"], as_percent=True)),
        ("chance", "50 %"),
    ]
    count = values["accuracy"]["count"]
    voices = ", ".join(f"{voice} {100 * each['mean']:.0f}" for voice, each in values["by_voice"].items())
    note = (
        f"{count} pairs each of a real and a made-up word in the same voice (AudioLM, sWUGGY: 71.5 %). "
        f"In each voice: {voices} %."
    )
    return Table("Spot the real word", ("", "accuracy"), rows, note)


def continuation_tables(values: dict[str, Any]) -> list[Table]:
    found = []
    kinds = [kind for kind in (SPEECH, PIANO) if kind in values]
    first = values[kinds[0]] if kinds else {"checks": {}, "means": {}, "stage_seconds": {}}
    rows = [
        (name, *(interval(values[kind]["checks"][name], as_percent=True) for kind in kinds))
        for name in first["checks"]
    ]
    rows += [(name, *(interval(values[kind]["means"][name]) for kind in kinds)) for name in first["means"]]
    columns = ("", *(f"{kind}, {values[kind]['count']} prompts" for kind in kinds))
    lengths = f"Prompts of {values['prompt_seconds']:g} s, continued by {values['seconds']:g} s."
    found.append(Table("Continuations", columns, rows, f"{lengths} In brackets: 95 % interval."))
    if "voice" in values.get(SPEECH, {}):
        voice = values[SPEECH]["voice"]
        rows = [
            ("continuation in the prompt's voice ↑", interval(voice["accuracy"], as_percent=True)),
            ("true continuation, through the codec", interval(voice["ceiling"], as_percent=True)),
            ("chance", percent(voice["chance"], 1)),
        ]
        note = f"Speaker classification among {voice['enrolled']} test speakers (AudioLM: 92.6 % of 291)."
        found.append(Table("Voice", ("", "accuracy"), rows, note))
    if "kept" in values.get(PIANO, {}):
        titles = {
            "key": "key: correlation of pitch classes",
            "tempo": "tempo: overlap of the intervals between notes",
        }
        columns = (
            "",
            "continuation ↑",
            "another prompt's",
            "margin ↑",
            "true continuation",
            "that through the codec",
        )
        order = ("continuation", "other", "margin", "truth", "ceiling")
        rows = [
            (title, *(interval(values[PIANO]["kept"][name][column]) for column in order))
            for name, title in titles.items()
        ]
        found.append(Table("Piano: what is kept of the prompt", columns, rows))
    stages = list(first["stage_seconds"])
    rows = [(stage, *(number(values[kind]["stage_seconds"][stage], 3) for kind in kinds)) for stage in stages]
    found.append(Table("Seconds of computing per second of sound", ("", *kinds), rows))
    return found
