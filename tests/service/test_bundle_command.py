"""`audiolm bundle` as its users meet it: what it prints and how it ends."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from service.cli import main
from service.commands.bundle import describe_training


def test_bundle_inspect_and_verify(
    tiny_bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["bundle", "inspect", str(tiny_bundle)]) == 0
    shown = capsys.readouterr().out
    assert "tiny 0" in shown and "num_codebooks 12" in shown
    assert main(["bundle", "verify", str(tiny_bundle)]) == 0
    assert "its parts fit" in capsys.readouterr().out
    assert main(["bundle", "verify", str(tmp_path)]) == 2
    assert "bundle.json" in capsys.readouterr().err


def test_bundle_inspect_sums_up_the_training() -> None:
    data = [
        {"corpus": "a", "kind": "piano", "licence": "CC0", "source": f"piece {i}", "hours": 0.25}
        for i in range(6)
    ]
    check = {"name": "codebook use", "passed": False}
    reports = {"codec": {"steps": 12, "seconds": 120.0, "checks": [check]}}
    shown = "\n".join(describe_training({"data": data, "reports": reports}))
    assert "1.50 h  piano   CC0" in shown and "piece" not in shown
    assert "codec: 12 steps, 2 min, FAILED: codebook use" in shown


def test_a_reader_who_has_seen_enough_causes_no_trace(tiny_bundle: Path) -> None:
    command = [sys.executable, "-m", "service.cli", "bundle", "inspect", str(tiny_bundle)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None and process.stderr is not None
        process.stdout.close()
        assert process.wait(60) == 141
        assert process.stderr.read() == ""
