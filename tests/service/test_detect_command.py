"""`audiolm detect` as its users meet it: a verdict in the first word, one line and status 2 for what is wrong."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from service.cli import main
from tests.conftest import WriteClip, chord
from tests.service.processes import process
from tests.service.test_cli import bad_clips


@pytest.fixture(autouse=True)
def _own_data(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("AUDIOLM_DATA_DIR", str(tmp_path / "data"))


def test_a_clip_of_somebody_else(
    write_clip: WriteClip, tiny_bundle: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    clip = write_clip("clip.ogg", chord(2.0, 44_100), 44_100)
    assert main(["detect", str(clip), "--bundle", str(tiny_bundle)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split(":")[0] in ("no_evidence", "inconclusive")
    assert [line.split()[0] for line in lines[1:]] == ["content", "ledger", "watermark", "classifier"]
    assert main(["detect", str(clip), "--bundle", str(tiny_bundle), "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["seconds"] == 2.0
    assert answer["segments"] == answer["evidence"] == []
    assert answer["versions"]["bundle"] == answer["versions"]["detector"] == "0"


def test_layers_that_are_switched_off(
    write_clip: WriteClip,
    tiny_bundle: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    for layer in ("WATERMARK", "LEDGER", "CONTENT_CREDENTIALS"):
        monkeypatch.setenv(f"AUDIOLM_{layer}", "false")
    bundle = shutil.copytree(tiny_bundle, tmp_path / "bundle")
    manifest = json.loads((bundle / "bundle.json").read_text())
    del manifest["parts"]["detector"]
    (bundle / "bundle.json").write_text(json.dumps(manifest))
    clip = write_clip("clip.wav", chord(1.0))
    assert main(["detect", str(clip), "--bundle", str(bundle), "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["verdict"] == "inconclusive"
    nothing = ("watermark", "ledger", "content_credentials", "probability", "operating_point")
    assert {name: answer[name] for name in nothing} == dict.fromkeys(nothing)
    assert answer["versions"]["detector"] is None
    assert not (tmp_path / "data").exists(), "what is switched off makes no keys"
    assert main(["detect", str(clip), "--bundle", str(bundle)]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 1


def test_what_is_wrong_is_one_line_and_status_2(
    write_clip: WriteClip,
    tmp_path: Path,
    tiny_bundle: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    good = write_clip("fine.wav", chord(1))

    def refused(*options: str, names: str) -> None:
        assert main(["detect", *options]) == 2, names
        heard = capfd.readouterr()
        assert heard.err.startswith("audiolm: ") and heard.err.count("\n") == 1, heard.err
        assert names in heard.err
        assert heard.out == ""

    for name, clip in bad_clips(write_clip, tmp_path).items():
        refused(str(clip), "--bundle", str(tiny_bundle), names=name)
    refused(str(good), "--bundle", str(tmp_path / "nowhere"), names="nowhere")
    refused(str(tmp_path / "missing.wav"), "--url", "http://127.0.0.1:9", names="missing.wav")
    monkeypatch.setenv("AUDIOLM_MAX_DETECT_SECONDS", "soon")
    refused(str(good), names="AUDIOLM_MAX_DETECT_SECONDS")


def test_a_service_is_asked_instead(write_clip: WriteClip, capsys: pytest.CaptureFixture[str]) -> None:
    clip = write_clip("clip.flac", chord(2.0))
    with process() as server:
        url = f"http://127.0.0.1:{server.port}"
        assert main(["detect", str(clip), "--url", url]) == 0
        assert capsys.readouterr().out.startswith("inconclusive: ")
        assert main(["detect", str(clip), "--url", url, "--json"]) == 0
        assert json.loads(capsys.readouterr().out)["seconds"] == 2.0
        assert main(["detect", str(write_clip("blink.wav", chord(0.2))), "--url", url]) == 2
        assert "0.2" in capsys.readouterr().err
