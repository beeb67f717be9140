"""Loading and saving clips: every format, only what is needed, and one clear error for what cannot be used."""

from __future__ import annotations

import io
import struct
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from model.audio import check_target, load_clip, save_clip
from model.errors import AudioError
from tests.conftest import WriteClip, chord

FORMATS = [
    ("a.wav", 8_000, 1, "PCM_16"),
    ("a.wav", 44_100, 2, "PCM_16"),
    ("a.wav", 16_000, 1, "PCM_24"),
    ("a.wav", 48_000, 6, "FLOAT"),
    ("a.flac", 22_050, 1, "PCM_16"),
    ("a.ogg", 44_100, 2, "VORBIS"),
    ("a.ogg", 48_000, 1, "OPUS"),
    ("a.mp3", 44_100, 2, "MPEG_LAYER_III"),
]


def same(a: np.ndarray, b: np.ndarray) -> float:
    """Correlation of two clips of one length."""
    return float(np.corrcoef(a, b)[0, 1])


@pytest.mark.parametrize(("name", "rate", "channels", "subtype"), FORMATS)
def test_any_format_becomes_16_khz_mono(
    write_clip: WriteClip, name: str, rate: int, channels: int, subtype: str
) -> None:
    samples = np.repeat(chord(1.5, rate)[:, None], channels, axis=1)
    clip = load_clip(write_clip(name, samples, rate, subtype))
    assert clip.waveform.dtype == torch.float32
    assert clip.waveform.shape == (24_000,)
    assert same(clip.waveform.numpy(), chord(1.5)) > 0.98
    assert (clip.original_rate, clip.original_channels) == (rate, channels)
    assert clip.original_seconds == pytest.approx(1.5)
    assert clip.bit_depth == (24 if subtype in ("PCM_24", "FLOAT") else 16)
    assert any("resampled" in note for note in clip.notes) == (rate != 16_000)
    assert any("mixed" in note for note in clip.notes) == (channels > 1)


@pytest.mark.parametrize("suffix", [".wav", ".flac", ".ogg", ".mp3"])
def test_only_the_last_seconds_are_kept(write_clip: WriteClip, suffix: str) -> None:
    ramp = chord(10, level=0.4) * np.linspace(0.05, 1, 160_000, dtype=np.float32)
    path = write_clip(f"long{suffix}", ramp)
    clip = load_clip(path, max_seconds=2.0)
    assert clip.waveform.shape == (32_000,)
    assert same(clip.waveform.numpy(), ramp[-32_000:]) > 0.98
    assert clip.original_seconds == pytest.approx(10, abs=0.01)
    assert "kept the last 2.0 s of 10.0 s" in clip.notes
    first = load_clip(path, max_seconds=2.0, last=False)
    assert same(first.waveform.numpy(), ramp[:32_000]) > 0.9


def test_a_long_recording_is_not_decoded_whole(write_clip: WriteClip) -> None:
    class Counting(io.BytesIO):
        seen = 0

        def readinto(self, buffer: bytearray) -> int:  # type: ignore[override]
            n = super().readinto(buffer)
            self.seen += n
            return n

        def read(self, size: int | None = -1) -> bytes:
            data = super().read(size)
            self.seen += len(data)
            return data

    data = write_clip("long.wav", chord(120)).read_bytes()
    file = Counting(data)
    assert load_clip(file, max_seconds=1.0).waveform.shape == (16_000,)
    assert file.seen < len(data) / 10


def test_a_clip_without_a_stated_length_is_read_to_its_end(write_clip: WriteClip) -> None:
    data = bytearray(write_clip("a.flac", chord(1.0)).read_bytes())
    data[21] &= 0xF0  # STREAMINFO's 36 bits of total samples, as an encoder writing to a pipe leaves them
    data[22:26] = bytes(4)
    assert load_clip(io.BytesIO(bytes(data))).waveform.shape == (16_000,)


def test_a_wav_from_a_pipe_is_read_to_its_end(write_clip: WriteClip) -> None:
    data = bytearray(write_clip("a.wav", chord(1.0)).read_bytes())
    data[4:8] = data[40:44] = b"\xff\xff\xff\xff"
    assert load_clip(io.BytesIO(bytes(data))).waveform.shape == (16_000,)


@pytest.mark.parametrize(
    ("name", "subtype"),
    [
        ("a.wav", "PCM_16"),
        ("a.wav", "FLOAT"),
        ("a.aiff", "PCM_16"),
        ("a.flac", "PCM_16"),
        ("a.ogg", "VORBIS"),
        ("a.ogg", "OPUS"),
        ("a.mp3", "MPEG_LAYER_III"),
    ],
)
@pytest.mark.parametrize("max_seconds", [None, 1.0])
def test_a_truncated_file_is_refused(
    write_clip: WriteClip,
    capfd: pytest.CaptureFixture[str],
    name: str,
    subtype: str,
    max_seconds: float | None,
) -> None:
    data = write_clip(name, chord(4), subtype=subtype).read_bytes()
    with pytest.raises(AudioError) as caught:
        load_clip(io.BytesIO(data[: len(data) * 6 // 10]), max_seconds=max_seconds)
    assert caught.value.code in ("truncated", "unreadable_audio")
    assert capfd.readouterr().err == ""  # libraries below print nothing of their own


def forged_rate(data: bytes, rate: int) -> bytes:
    return data[:24] + struct.pack("<I", rate) + data[28:]


def test_bad_clips_name_their_problem(write_clip: WriteClip, tmp_path: Path) -> None:
    wav = write_clip("good.wav", chord(1)).read_bytes()
    nan = chord(1)
    nan[8_000] = np.nan
    cases: dict[str, tuple[bytes, str]] = {
        "empty": (b"", "empty_audio"),
        "text": (b"this is no sound at all\n" * 50, "unreadable_audio"),
        "0 Hz": (forged_rate(wav, 0), "unreadable_audio"),
        "1 Hz": (forged_rate(wav, 1), "bad_rate"),
        "4 GHz": (forged_rate(wav, 4_000_000_000), "unreadable_audio"),
        "NaN": (write_clip("nan.wav", nan, subtype="FLOAT").read_bytes(), "non_finite"),
        "silence": (write_clip("s.wav", np.zeros(16_000, np.float32)).read_bytes(), "silent"),
        "0.3 s": (write_clip("short.wav", chord(0.3)).read_bytes(), "too_short"),
        "no samples": (wav[:40] + bytes(4), "empty_audio"),
    }
    for what, (data, code) in cases.items():
        path = tmp_path / "case.wav"
        path.write_bytes(data)
        with pytest.raises(AudioError) as caught:
            load_clip(path)
        assert caught.value.code == code, what
        assert "case.wav" in str(caught.value), what
        assert "\n" not in str(caught.value), what
    with pytest.raises(AudioError, match=r"gone\.wav") as caught:
        load_clip(tmp_path / "gone.wav")
    assert caught.value.code == "missing_file"


def test_a_limit_refuses_longer_clips_by_header_and_by_content(write_clip: WriteClip) -> None:
    with pytest.raises(AudioError, match="lasts 3 s, at most 2 s") as caught:
        load_clip(write_clip("a.wav", chord(3)), limit_seconds=2.0)
    assert caught.value.code == "too_long"
    data = bytearray(write_clip("a.flac", chord(3)).read_bytes())
    data[21] &= 0xF0
    data[22:26] = bytes(4)
    with pytest.raises(AudioError) as caught:
        load_clip(io.BytesIO(bytes(data)), limit_seconds=2.0)
    assert caught.value.code == "too_long"


@pytest.mark.parametrize(("suffix", "bit_depth"), [(".wav", 16), (".wav", 24), (".flac", 16), (".flac", 24)])
def test_saved_samples_come_back_exactly(tmp_path: Path, suffix: str, bit_depth: int) -> None:
    steps = 2 ** (bit_depth - 1)
    rng = np.random.default_rng(1)
    whole = np.concatenate([rng.integers(-steps, steps, 20_000), [-steps, steps - 1]])
    waveform = torch.from_numpy(whole / steps).float()
    path = tmp_path / f"a{suffix}"
    save_clip(path, waveform, bit_depth=bit_depth)
    back, rate = soundfile.read(path, dtype="float32")
    assert rate == 16_000
    assert np.array_equal(back, waveform.numpy())


@pytest.mark.parametrize("format", ["OGG", "MP3"])
def test_lossy_formats_are_written(format: str) -> None:
    file = io.BytesIO()
    save_clip(file, torch.from_numpy(chord(60)), format)
    assert file.tell() > 0
    file.seek(0)
    back, rate = soundfile.read(file, dtype="float32")
    assert (len(back), rate) == (960_000, 16_000)
    assert same(back, chord(60)) > 0.98


def test_nothing_is_left_of_a_file_that_could_not_be_written(tmp_path: Path) -> None:
    for path, code in [
        (tmp_path / "missing" / "a.wav", "unwritable_output"),
        (tmp_path / "a.txt", "unknown_format"),
    ]:
        with pytest.raises(AudioError) as caught:
            check_target(path)
        assert caught.value.code == code
        with pytest.raises(AudioError) as caught:
            save_clip(path, torch.zeros(100))
        assert caught.value.code == code
    (tmp_path / "folder.wav").mkdir()
    with pytest.raises(AudioError, match=r"folder\.wav"):
        save_clip(tmp_path / "folder.wav", torch.zeros(100))
    assert [p.name for p in tmp_path.iterdir()] == ["folder.wav"]
