"""Real lossy encoders, there and back: MP3, Ogg Opus and Ogg Vorbis by libsndfile, AAC by ffmpeg where there is one.

Decisions held here: a constant bit rate is asked for where the format has one (libsndfile maps 0..1 to a range of
rates, MP3: 8-160 kbit/s at 16 kHz, Opus: 6-256); Vorbis has a quality. What an encoder puts before the sound is cut.
AAC goes through an MP4 file, whose edit list says how much that is. Blocks.
"""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import numpy as np
import soundfile

from model.distortions.distortion import SAMPLE_RATE, Distortion, Waveform

LAME_DELAY = (
    576 + 529
)  # samples of encoder and decoder; frames below 40 kbit/s have no room for the tag that says so
BLOCK = 1 << 16  # libvorbis and libopus keep a whole write on their stack


def _there_and_back(
    waveform: Waveform, format: str, subtype: str, mode: str | None, compression: float
) -> Waveform:
    coded = BytesIO()
    with soundfile.SoundFile(
        coded, "w", SAMPLE_RATE, 1, subtype, format=format, bitrate_mode=mode, compression_level=compression
    ) as file:
        for start in range(0, len(waveform), BLOCK):
            file.write(np.clip(waveform[start : start + BLOCK], -1, 1))
    coded.seek(0)
    decoded, _ = soundfile.read(coded, dtype="float32")
    return np.asarray(decoded, np.float32)


@dataclass(frozen=True)
class Mp3(Distortion):
    """LAME at a constant rate, 8-160 kbit/s."""

    kilobits_per_second: float

    def apply(self, waveform: Waveform, rng: np.random.Generator) -> Waveform:
        level = (160 - self.kilobits_per_second) / (160 - 8)
        decoded = _there_and_back(waveform, "MP3", "MPEG_LAYER_III", "CONSTANT", level)
        return decoded[LAME_DELAY:] if len(decoded) > len(waveform) else decoded


@dataclass(frozen=True)
class Opus(Distortion):
    """libopus at a mean rate, 6-256 kbit/s."""

    kilobits_per_second: float

    def apply(self, waveform: Waveform, rng: np.random.Generator) -> Waveform:
        level = (256 - self.kilobits_per_second) / (256 - 6)
        return _there_and_back(waveform, "OGG", "OPUS", None, level)


@dataclass(frozen=True)
class Vorbis(Distortion):
    """libvorbis by quality, 0..1 (0.4 is what most programs use)."""

    quality: float

    def apply(self, waveform: Waveform, rng: np.random.Generator) -> Waveform:
        return _there_and_back(waveform, "OGG", "VORBIS", None, 1 - self.quality)


@dataclass(frozen=True)
class Aac(Distortion):
    """ffmpeg's AAC-LC at a mean rate. Construct it only where `Aac.available()`."""

    kilobits_per_second: float

    @staticmethod
    def available() -> bool:
        return shutil.which("ffmpeg") is not None

    def apply(self, waveform: Waveform, rng: np.random.Generator) -> Waveform:
        raw = ["-f", "f32le", "-ar", str(SAMPLE_RATE), "-ac", "1"]
        quiet = ["ffmpeg", "-nostdin", "-loglevel", "error", "-y", "-threads", "1"]
        with tempfile.TemporaryDirectory() as folder:
            coded = str(Path(folder) / "coded.m4a")
            rate = ["-c:a", "aac", "-b:a", f"{self.kilobits_per_second:g}k"]
            sound = np.clip(waveform, -1, 1).astype("<f4").tobytes()
            to_file = [*quiet[:1], *quiet[2:], *raw, "-i", "pipe:0", *rate, coded]
            subprocess.run(to_file, input=sound, check=True, capture_output=True)
            decoded = subprocess.run(
                [*quiet, "-i", coded, *raw, "pipe:1"], check=True, capture_output=True
            ).stdout
        return np.frombuffer(decoded, "<f4").astype(np.float32)
