"""Targets are judged by the figures they name, and only by those."""

from __future__ import annotations

from typing import Any

from tests.benchmarks.targets import judge


def peer(name: str, batch: int, speed: float, ours: float, device: str = "cpu") -> dict[str, Any]:
    return {
        "peer": name,
        "batch": batch,
        "device": device,
        "audio_seconds_per_second": speed,
        "ours_over_theirs": ours / speed,
    }


def met(found: dict[str, Any]) -> dict[str, bool]:
    return {row["target"]: row["met"] for row in judge(found)}


def test_nothing_measured_is_nothing_judged() -> None:
    assert judge({}) == []


def test_peers_are_compared_at_their_own_batch_size() -> None:
    rows = [
        peer("ours", 1, 4.0, 4.0),
        peer("audiolm-pytorch", 1, 0.1, 4.0),
        peer("transformers MusicGen, fp32", 8, 20.0, 15.0),
        {"peer": "transformers Bark", "device": "cpu", "missing": "No module named 'transformers'"},
    ]
    assert met({"peers": rows}) == {
        "audio s/s over audiolm-pytorch, one caller": True,
        "audio s/s over transformers MusicGen, fp32, batch 8": False,
    }


def test_eight_callers_in_turn_get_what_one_gets() -> None:
    rows = [peer("ours", 8, 15.0, 15.0), peer("audiolm-pytorch", 1, 0.1, 4.0)]
    judged = {row["target"]: row["measured"] for row in judge({"peers": rows})}
    assert judged["audio s/s over audiolm-pytorch, 8 callers one after another"] == 150.0


def test_codecs_are_judged_by_encoding_and_decoding_together() -> None:
    rows = [
        {"codec": "ours", "device": "cpu", "times_ours": 1.0},
        {"codec": "EnCodec, 24 kHz, 8 levels", "device": "cpu", "times_ours": 4.9},
    ]
    assert met({"codecs": rows}) == {"codec over EnCodec, 24 kHz, 8 levels": False}


def waits(system: str, device: str, factor: float) -> dict[str, Any]:
    return {
        "system": system,
        "device": device,
        "lengths": [
            {
                "seconds": 10.0,
                "real_time_factor": {"median": factor},
                "first_audio_seconds": {"median": 0.05},
            }
        ],
        "together": [{"callers": 8, "real_time_factor": factor / 2, "audio_seconds_per_second": 1.0}],
    }


def test_a_lone_caller_and_eight_have_limits_of_their_own() -> None:
    judged = met(
        {"continuation": [waits("shipped", "cpu", 0.2), {"system": "base", "device": "cpu", "failed": "x"}]}
    )
    assert judged == {
        "shipped, cpu: real-time factor alone, 10 s": True,
        "shipped, cpu: real-time factor per caller of 8": False,
    }


def test_base_on_a_gpu_is_held_to_harder_limits() -> None:
    judged = met({"continuation": [waits("base", "cuda", 0.031), waits("base", "cpu", 3.0)]})
    assert judged == {
        "base, cuda: real-time factor alone, 10 s": False,
        "base, cuda: first audio, seconds": True,
    }


def test_half_of_the_memory_bandwidth_is_wanted_of_a_lone_row_only() -> None:
    row = {"system": "shipped", "device": "cpu", "stage": "coarse", "batch": 1, "of_memory_limit": 0.5}
    assert [*met({"stages": [row, row | {"batch": 8}, row | {"stage": "fine"}]}).values()] == [True]
