"""The `audiolm` command, as its users meet it: files out, one line and status 2 for what is wrong."""

from __future__ import annotations

import hashlib
import os
import shutil
import signal
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

from service.cli import COMMANDS, main
from tests.conftest import WriteClip, chord


def run_continue(clip: Path, out: Path, bundle: Path, *options: str) -> int:
    return main(
        ["continue", str(clip), "-o", str(out), "--bundle", str(bundle), "--seconds", "0.5", *options]
    )


def assert_fit(path: Path, prompt: np.ndarray, continuation: int) -> None:
    """The file is `prompt` untouched, then `continuation` samples, without a click between them."""
    wave, rate = soundfile.read(path, dtype="float32")
    assert rate == 16_000
    assert wave.shape == (len(prompt) + continuation,)
    assert np.array_equal(wave[: len(prompt)], prompt)
    jumps = np.abs(np.diff(wave))
    assert jumps[len(prompt) - 1] <= np.quantile(jumps[: len(prompt) - 1], 0.999)


@pytest.mark.parametrize(
    ("subtype", "out"), [("PCM_16", "out.wav"), ("PCM_24", "out.wav"), ("PCM_16", "out.flac")]
)
def test_a_clip_comes_back_untouched_with_its_continuation(
    write_clip: WriteClip, tmp_path: Path, tiny_bundle: Path, subtype: str, out: str
) -> None:
    clip = write_clip("clip.wav", chord(1.23), subtype=subtype)
    assert run_continue(clip, tmp_path / out, tiny_bundle) == 0
    assert_fit(tmp_path / out, soundfile.read(clip, dtype="float32")[0], 8_000)


@pytest.mark.parametrize(
    ("name", "rate", "channels", "seconds"),
    [
        ("phone.wav", 8_000, 1, 0.5),
        ("studio.wav", 44_100, 2, 2.0),
        ("a.flac", 48_000, 1, 2.0),
        ("a.ogg", 22_050, 1, 2.0),
        ("a.mp3", 44_100, 2, 2.0),
        ("lecture.wav", 8_000, 1, 600.0),
    ],
)
def test_any_format_and_length(
    write_clip: WriteClip,
    tmp_path: Path,
    tiny_bundle: Path,
    name: str,
    rate: int,
    channels: int,
    seconds: float,
) -> None:
    clip = write_clip(name, np.repeat(chord(seconds, rate)[:, None], channels, axis=1), rate)
    out = tmp_path / "out.wav"
    assert run_continue(clip, out, tiny_bundle) == 0
    wave, _ = soundfile.read(out, dtype="float32")
    length = round(seconds * 16_000)
    assert len(wave) == length + 8_000
    assert np.corrcoef(wave[:length], chord(seconds))[0, 1] > 0.98
    assert_fit(out, wave[:length], 8_000)


def test_several_continuations_get_numbers(
    write_clip: WriteClip, tmp_path: Path, tiny_bundle: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    clip = write_clip("clip.wav", chord(1))
    assert (
        run_continue(clip, tmp_path / "take.wav", tiny_bundle, "--num-continuations", "2", "--seed", "7") == 0
    )
    one, two = (soundfile.read(tmp_path / f"take-{i}.wav")[0] for i in (1, 2))
    assert not np.array_equal(one, two)
    assert not (tmp_path / "take.wav").exists()
    assert "take-2.wav: 1.00 s of clip, then 0.5 s" in capsys.readouterr().out
    assert run_continue(clip, tmp_path / "alone.wav", tiny_bundle, "--seed", "8") == 0
    assert np.allclose(soundfile.read(tmp_path / "alone.wav")[0], two, atol=2 / 32768)


def bad_clips(write_clip: WriteClip, tmp_path: Path) -> dict[str, Path]:
    good = write_clip("good.wav", chord(1)).read_bytes()
    nan = chord(1)
    nan[100] = np.nan
    raw = {
        "empty.wav": b"",
        "text.wav": b"dear diary\n" * 100,
        "text.mp3": b"dear diary\n" * 100,
        "truncated.wav": good[:-5_000],
        "zero_hertz.wav": good[:24] + struct.pack("<I", 0) + good[28:],
    }
    for name, data in raw.items():
        (tmp_path / name).write_bytes(data)
    write_clip("nan.wav", nan, subtype="FLOAT")
    write_clip("silence.wav", np.zeros(16_000, np.float32))
    write_clip("two_hours.wav", np.full(2 * 3600 * 2_000, 0.1, np.float32), 2_000, "PCM_U8")
    write_clip("blink.wav", chord(0.2))
    names = [*raw, "nan.wav", "silence.wav", "two_hours.wav", "blink.wav", "not_there.wav"]
    return {name: tmp_path / name for name in names}


def test_a_bad_clip_is_one_line_status_2_and_no_file(
    write_clip: WriteClip, tmp_path: Path, tiny_bundle: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    for name, clip in bad_clips(write_clip, tmp_path).items():
        before = sorted(tmp_path.iterdir())
        assert run_continue(clip, tmp_path / "out.wav", tiny_bundle) == 2, name
        heard = capfd.readouterr()
        assert heard.err.startswith("audiolm: ") and heard.err.count("\n") == 1, heard.err
        assert name in heard.err
        assert heard.out == ""
        assert sorted(tmp_path.iterdir()) == before


def test_a_bad_bundle_is_one_line_status_2_and_no_file(
    write_clip: WriteClip, tmp_path: Path, tiny_bundle: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    clip = write_clip("clip.wav", chord(1))
    flipped, missing = (shutil.copytree(tiny_bundle, tmp_path / name) for name in ("flipped", "missing"))
    data = bytearray((flipped / "codec-1.safetensors").read_bytes())
    data[len(data) // 2] ^= 0x10
    (flipped / "codec-1.safetensors").write_bytes(data)
    (missing / "fine-1.safetensors").unlink()
    cases = {flipped: "codec-1.safetensors", missing: "fine-1.safetensors", tmp_path / "nowhere": "nowhere"}
    for bundle, named in cases.items():
        assert run_continue(clip, tmp_path / "out.wav", bundle) == 2
        heard = capfd.readouterr()
        assert heard.err.startswith("audiolm: ") and heard.err.count("\n") == 1, heard.err
        assert named in heard.err
        assert not (tmp_path / "out.wav").exists()


@pytest.mark.parametrize(
    ("options", "named"),
    [
        (["--seconds", "0"], "seconds"),
        (["--temperature", "-1"], "temperature"),
        (["--top-k", "0"], "top_k"),
        (["--num-continuations", "0"], "num_continuations"),
        (["--device", "abacus"], "abacus"),
        (["-o", "out.txt"], "out.txt"),
        (["-o", "no/such/folder/out.wav"], "no/such/folder"),
    ],
)
def test_a_bad_option_is_one_line_and_status_2(
    write_clip: WriteClip,
    tmp_path: Path,
    tiny_bundle: Path,
    capfd: pytest.CaptureFixture[str],
    options: list[str],
    named: str,
) -> None:
    clip = write_clip("clip.wav", chord(1))
    assert run_continue(clip, tmp_path / "out.wav", tiny_bundle, *options) == 2
    error = capfd.readouterr().err
    assert error.startswith("audiolm: ") and error.count("\n") == 1, error
    assert named in error
    assert not (tmp_path / "out.wav").exists()


def test_unknown_options_and_commands_exit_with_2(capsys: pytest.CaptureFixture[str]) -> None:
    train = ["train", "coarse", "--out", "run", "--minutes", "1", "--data"]
    for argv in (
        ["bundle", "inspect", "--surprise"],
        [*train, "corpus=often"],
        [*train, "c=0"],
        [*train, "c", "--rate", "0"],
        [*train, "c", "--rate", "slow"],
        ["sing"],
        [],
    ):
        with pytest.raises(SystemExit) as caught:
            main(argv)
        assert caught.value.code == 2
    assert "sing" in capsys.readouterr().err


@pytest.mark.parametrize("part", ["codec", "all"])
def test_training_does_not_start_from_weights_whose_tokens_would_change(
    part: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folders = ["--data", str(tmp_path), "--out", str(tmp_path / "run"), "--from", str(tmp_path)]
    assert main(["train", part, *folders, "--minutes", "1"]) == 2
    assert "--from is for tokenizer, semantic" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_help_teaches_and_needs_no_torch() -> None:
    code = "import sys, service.cli; service.cli.build_parser(); sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
    shown = subprocess.run(
        [sys.executable, "-m", "service.cli", "continue", "--help"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert "examples:" in shown and "--seconds" in shown
    listed = subprocess.run(
        [sys.executable, "-m", "service.cli", "--help"], capture_output=True, text=True, check=True
    ).stdout
    assert all(word in listed for word in ("continue", "bundle", "train"))
    assert len(COMMANDS) == len(set(COMMANDS))


def test_ctrl_c_exits_with_130(write_clip: WriteClip, tmp_path: Path, tiny_bundle: Path) -> None:
    clip = write_clip("clip.wav", chord(1, 8_000), 8_000)
    out = tmp_path / "out.wav"
    # a shell starts what runs in its background with SIGINT ignored, and every child inherits that
    heard = "import os, signal, sys; signal.signal(signal.SIGINT, signal.SIG_DFL); os.execv(sys.argv[1], sys.argv[1:])"
    command = [sys.executable, "-u", "-m", "service.cli", "continue", str(clip), "-o", str(out)]
    with subprocess.Popen(
        [sys.executable, "-c", heard, *command, "--bundle", str(tiny_bundle), "--seconds", "3600"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    ) as process:
        assert process.stdout is not None and process.stderr is not None
        assert "resampled" in process.stdout.readline()  # the clip is read; the work begins
        process.send_signal(signal.SIGINT)
        assert process.wait(120) == 130
        assert process.stderr.read() == "audiolm: interrupted\n"
    assert not out.exists()


def test_a_continuation_made_here_is_known_again(
    write_clip: WriteClip, tmp_path: Path, tiny_bundle: Path
) -> None:
    """The same marks as a served one, with the same data folder."""
    from service.layers import build_provenance
    from service.settings import Settings

    clip = write_clip("clip.wav", chord(1), subtype="PCM_16")
    assert (
        run_continue(clip, tmp_path / "take.wav", tiny_bundle, "--num-continuations", "2", "--seed", "7") == 0
    )
    known = build_provenance(Settings())
    assert known.ledger and known.credentials and known.watermark
    for i in (1, 2):
        data = (tmp_path / f"take-{i}.wav").read_bytes()
        entry = known.ledger.lookup_digest(hashlib.sha256(data).digest())
        assert entry is not None
        assert (entry.seed, entry.bundle, entry.segments) == (6 + i, "tiny 0", ((1.0, 1.5),))
        assert known.credentials.read(data).generation_id == entry.id


def test_no_file_is_written_that_could_not_be_entered_in_the_ledger(
    write_clip: WriteClip,
    tmp_path: Path,
    tiny_bundle: Path,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clip = write_clip("clip.wav", chord(1))
    monkeypatch.setenv("AUDIOLM_LEDGER_URL", f"sqlite:///{tmp_path}/not-there/ledger.sqlite")
    assert run_continue(clip, tmp_path / "out.wav", tiny_bundle) == 2
    assert "ledger" in capfd.readouterr().err
    assert not (tmp_path / "out.wav").exists()
    monkeypatch.setenv("AUDIOLM_PROVENANCE", "best_effort")
    assert run_continue(clip, tmp_path / "out.wav", tiny_bundle) == 0
    monkeypatch.setenv("AUDIOLM_PROVENANCE", "sometimes")
    assert run_continue(clip, tmp_path / "again.wav", tiny_bundle) == 2
    assert "AUDIOLM_PROVENANCE" in capfd.readouterr().err
