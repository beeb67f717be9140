"""Every alert fires when it should and keeps quiet when it should, in the real rule engine (promtool)."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.docker.conftest import DOCKER, RULES, program, rules_of

WORK = 'audiolm_requests_total{route="/continue", outcome="%s"}'
INSTANCE = {"instance": "a:8000"}


@dataclass(frozen=True)
class Case:
    """`series` by name in promtool's notation, a value every `step`. `labels` of the alert that fires; None: quiet."""

    alert: str
    at: str
    series: dict[str, str]
    labels: dict[str, str] | None = field(default_factory=dict)
    step: str = "1m"


def requests(**counts: str) -> dict[str, str]:
    return {WORK % outcome: values for outcome, values in counts.items()}


def histogram(name: str, below: float, above: float, *, slow_share: int) -> dict[str, str]:
    """10 values a minute, of which `slow_share` lie between `below` and `above` and the others under `below`."""
    return {
        f'{name}_bucket{{le="{below}"}}': f"0+{10 - slow_share}x40",
        f'{name}_bucket{{le="{above}"}}': "0+10x40",
        f'{name}_bucket{{le="+Inf"}}': "0+10x40",
    }


def gauge(name: str, values: str, **labels: str) -> dict[str, str]:
    shown = ", ".join(f'{label}="{value}"' for label, value in {**INSTANCE, **labels}.items())
    return {f"{name}{{{shown}}}": values}


def examined(ours: str, others: str) -> dict[str, str]:
    """Clips by verdict."""
    name = 'audiolm_detections_total{verdict="%s"}'
    return {name % "made_by_this_system": ours, name % "no_evidence": others}


def probability(total: str, clips: str) -> dict[str, str]:
    """What the classifier said, added up, and of how many clips."""
    return {"audiolm_detect_probability_sum": total, "audiolm_detect_probability_count": clips}


def detect(**counts: str) -> dict[str, str]:
    return {(WORK % outcome).replace("/continue", "/detect"): values for outcome, values in counts.items()}


WEEK = 7 * 48  # half hours
STEPS = ("1m", "30m")  # between two values, and between two evaluations
JOB = {"job": "audiolm"}
CASES = [
    Case("AudiolmErrorBudgetBurnsFast", "90m", requests(ok="0+100x90", error="0+30x90")),
    Case("AudiolmErrorBudgetBurnsFast", "90m", requests(ok="0+100x90", oom="0+15x90", deadline="0+15x90")),
    Case(
        "AudiolmErrorBudgetBurnsFast", "90m", requests(ok="0+100x90", error="0+100x60 6000x30"), None
    ),  # it is over
    Case(
        "AudiolmErrorBudgetBurnsFast",
        "90m",
        requests(ok="0+100x90", client_error="0+90x90", cancelled="0+9x90"),
        None,
    ),
    Case("AudiolmErrorBudgetBurns", "7h", requests(ok="0+100x420", error="0+8x420")),
    Case("AudiolmErrorBudgetBurns", "7h", requests(ok="0+100x420", error="0+5x420"), None),
    Case("AudiolmErrorBudgetBurnsSlowly", "74h", requests(ok="0+100x150", error="0+2x150"), step="30m"),
    Case(
        "AudiolmErrorBudgetBurnsSlowly", "74h", requests(ok="0+1000x150", error="0+9x150"), None, step="30m"
    ),
    Case(
        "AudiolmFirstAudioSlow", "30m", histogram("audiolm_time_to_first_audio_seconds", 2.5, 5, slow_share=5)
    ),
    Case(
        "AudiolmFirstAudioSlow",
        "30m",
        histogram("audiolm_time_to_first_audio_seconds", 2.5, 5, slow_share=0),
        None,
    ),
    Case("AudiolmSlowerThanRealTime", "30m", histogram("audiolm_real_time_factor", 1, 1.5, slow_share=2)),
    Case(
        "AudiolmSlowerThanRealTime", "30m", histogram("audiolm_real_time_factor", 1, 1.5, slow_share=0), None
    ),
    Case("AudiolmQueueLong", "30m", histogram("audiolm_queue_seconds", 10, 20, slow_share=2)),
    Case("AudiolmQueueLong", "30m", histogram("audiolm_queue_seconds", 10, 20, slow_share=0), None),
    Case(
        "AudiolmStreamsStutter",
        "30m",
        {"audiolm_stream_underruns_total": "0+10x40", "audiolm_inter_chunk_seconds_count": "0+100x40"},
    ),
    Case(
        "AudiolmStreamsStutter",
        "30m",
        {"audiolm_stream_underruns_total": "0+1x40", "audiolm_inter_chunk_seconds_count": "0+100x40"},
        None,
    ),
    Case("AudiolmRejecting", "30m", requests(ok="0+90x40", rejected="0+10x40")),
    Case("AudiolmRejecting", "30m", requests(ok="0+99x40", rejected="0+1x40"), None),
    Case(
        "AudiolmSlotsFull",
        "40m",
        gauge("audiolm_slots", "16x60") | gauge("audiolm_slots_used", "16x60"),
        INSTANCE,
    ),
    Case(
        "AudiolmSlotsFull",
        "40m",
        gauge("audiolm_slots", "16x60") | gauge("audiolm_slots_used", "15x60"),
        None,
    ),
    Case("AudiolmOutOfMemory", "10m", gauge("audiolm_out_of_memory_total", "0x5 1x20"), INSTANCE),
    Case("AudiolmOutOfMemory", "25m", gauge("audiolm_out_of_memory_total", "0x5 1x30"), None),
    Case(
        "AudiolmMemoryGrows",
        "190m",
        gauge("process_resident_memory_bytes", "1000000000+5000000x200", **JOB),
        INSTANCE | JOB,
    ),
    Case(
        "AudiolmMemoryGrows",
        "190m",
        gauge("process_resident_memory_bytes", "1000000000+500000x200", **JOB),
        None,
    ),
    Case("AudiolmDown", "10m", gauge("up", "1x5 0x10", **JOB), INSTANCE | JOB),
    Case("AudiolmDown", "10m", gauge("up", "1x20", **JOB), None),
    Case("AudiolmAbsent", "10m", gauge("up", "1x20", job="prometheus"), JOB),
    Case("AudiolmAbsent", "10m", gauge("up", "0x20", **JOB), None),
    Case("AudiolmNotReady", "10m", gauge("audiolm_ready", "0x20"), INSTANCE),
    Case("AudiolmNotReady", "10m", gauge("audiolm_ready", "0x3 1x20"), None),
    Case("AudiolmEngineStalled", "5m", gauge("audiolm_engine_heartbeat_age_seconds", "1+10x20"), INSTANCE),
    Case("AudiolmEngineStalled", "5m", gauge("audiolm_engine_heartbeat_age_seconds", "0.9x20"), None),
    Case(
        "AudiolmRestarts", "10m", gauge("process_start_time_seconds", "1 2 3 4 4x20", **JOB), INSTANCE | JOB
    ),
    Case("AudiolmRestarts", "10m", gauge("process_start_time_seconds", "1 2 3 3 3x20", **JOB), None),
    Case(
        "AudiolmIsolatedFailures",
        "10m",
        gauge("audiolm_continuations_total", "0x5 1x20", reason="failed"),
        INSTANCE | {"reason": "failed"},
    ),
    Case(
        "AudiolmIsolatedFailures",
        "10m",
        gauge("audiolm_continuations_total", "0+5x20", reason="cancelled"),
        None,
    ),
    Case(  # a tenth was ours all week, now it is half
        "AudiolmDetectorDrift",
        "171h",
        examined(f"0+10x{WEEK} {10 * WEEK + 50}+50x8", f"0+90x{WEEK} {90 * WEEK + 50}+50x8"),
        step="30m",
    ),
    Case(  # the same verdicts, but the classifier is surer than it was
        "AudiolmDetectorDrift",
        "171h",
        examined(f"0+10x{WEEK + 8}", f"0+90x{WEEK + 8}")
        | probability(f"0+20x{WEEK} {20 * WEEK + 45}+45x8", f"0+100x{WEEK + 8}"),
        step="30m",
    ),
    Case(
        "AudiolmDetectorDrift",
        "171h",
        examined(f"0+10x{WEEK + 8}", f"0+90x{WEEK + 8}")
        | probability(f"0+20x{WEEK} {20 * WEEK + 25}+25x8", f"0+100x{WEEK + 8}"),
        None,
        step="30m",
    ),
    Case(  # too few clips to tell
        "AudiolmDetectorDrift",
        "171h",
        examined(f"0+1x{WEEK} {WEEK + 10}+10x8", f"0+9x{WEEK + 8}"),
        None,
        step="30m",
    ),
    Case("AudiolmDetectFails", "40m", detect(ok="0+90x60", error="0+5x60", deadline="0+5x60")),
    Case("AudiolmDetectFails", "40m", detect(ok="0+99x60", error="0+1x60", client_error="0+90x60"), None),
    Case(
        "AudiolmLedgerFails",
        "14m",
        gauge("audiolm_ledger_failures_total", "0x5 1x20", operation="record"),
        {"operation": "record"},
    ),
    Case(
        "AudiolmLedgerFails", "14m", gauge("audiolm_ledger_failures_total", "0x30", operation="record"), None
    ),
]


def test_every_alert_is_tested_both_ways() -> None:
    names = {rule["alert"] for rule in rules_of("alerts")}
    assert {case.alert for case in CASES if case.labels is not None} == names
    assert {case.alert for case in CASES if case.labels is None} == names
    assert {case.step for case in CASES} == set(STEPS)


@pytest.mark.parametrize("rule", rules_of("alerts"), ids=lambda rule: rule["alert"])
def test_every_alert_says_how_urgent_and_what_to_do(rule: dict[str, Any]) -> None:
    assert rule["labels"]["severity"] in ("page", "ticket")
    assert rule["annotations"]["summary"].endswith(".")
    assert rule["annotations"]["runbook"].endswith(".")
    assert len(rule["annotations"]["runbook"]) > 40


@pytest.mark.parametrize("step", STEPS)
def test_alerts_fire_and_keep_quiet(step: str, tmp_path: Path) -> None:
    promtool = program("promtool")
    rules = {rule["alert"]: rule for rule in rules_of("alerts")}
    document = {
        "rule_files": [str(RULES / "recording.yml"), str(RULES / "alerts.yml")],
        "evaluation_interval": step,
        # in any other order alerts see what was recorded a step ago, which at 30 minutes is nothing
        "group_eval_order": [
            group["name"]
            for file in ("recording.yml", "alerts.yml")
            for group in yaml.safe_load((RULES / file).read_text())["groups"]
        ],
        "tests": [promtool_test(case, rules[case.alert]) for case in CASES if case.step == step],
    }
    file = tmp_path / "alerts_test.yml"
    file.write_text(yaml.safe_dump(document))
    done = subprocess.run([promtool, "test", "rules", file], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def promtool_test(case: Case, rule: dict[str, Any]) -> dict[str, Any]:
    """`case` in promtool's own form, with the labels and annotations that the rule gives."""
    expected = []
    if case.labels is not None:
        annotations = {
            name: text.replace("{{ $labels.instance }}", case.labels.get("instance", "")).replace(
                "{{ $labels.operation }}", case.labels.get("operation", "")
            )
            for name, text in rule["annotations"].items()
        }
        expected = [{"exp_labels": case.labels | rule["labels"], "exp_annotations": annotations}]
    return {
        "interval": case.step,
        "input_series": [{"series": name, "values": values} for name, values in case.series.items()],
        "alert_rule_test": [{"eval_time": case.at, "alertname": case.alert, "exp_alerts": expected}],
    }


def test_promtool_accepts_the_configuration() -> None:
    config = DOCKER / "prometheus" / "prometheus.yml"
    done = subprocess.run(
        [program("promtool"), "check", "config", config], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stdout + done.stderr
