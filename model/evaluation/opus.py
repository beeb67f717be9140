"""The yardstick: the same clips through Opus (RFC 6716) at a given bit rate, by opus-tools.

Knows the two command lines and the Ogg page layout (RFC 3533) needed to count payload bits. Where opus-tools
is not installed, `missing_reason` says so and the table leaves the rows out.
"""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile

from model.config import SAMPLE_RATE
from model.evaluation.spectral import Waveform

HEADER_PACKETS = 2  # OpusHead and OpusTags carry no sound


@dataclass(frozen=True)
class OpusResult:
    """One clip after Opus."""

    waveform: Waveform  # [N], as long as the original
    kilobits_per_second: float  # payload only, without the Ogg container


def missing_reason() -> str | None:
    """Why Opus cannot be run here, or None."""
    missing = [tool for tool in ("opusenc", "opusdec") if shutil.which(tool) is None]
    return f"{' and '.join(missing)} not found: install opus-tools" if missing else None


def through_opus(waveform: Waveform, kilobits_per_second: float) -> OpusResult:
    """Encode and decode `waveform` [N] at 16 kHz with opusenc's defaults: variable rate, 20 ms frames."""
    with tempfile.TemporaryDirectory() as folder:
        original, coded, restored = (Path(folder) / name for name in ("in.wav", "coded.opus", "out.wav"))
        soundfile.write(original, waveform, SAMPLE_RATE, subtype="PCM_16")
        encode: list[str | Path] = [
            "opusenc",
            "--quiet",
            "--bitrate",
            f"{kilobits_per_second:g}",
            original,
            coded,
        ]
        subprocess.run(encode, check=True, capture_output=True)
        decode: list[str | Path] = ["opusdec", "--quiet", "--rate", str(SAMPLE_RATE), coded, restored]
        subprocess.run(decode, check=True, capture_output=True)
        decoded, _ = soundfile.read(restored, dtype="float32")
        payload = ogg_payload_bytes(coded.read_bytes())
    length = len(waveform)
    decoded = np.pad(decoded, (0, max(0, length - len(decoded))))[:length].astype(np.float32)
    return OpusResult(decoded, payload * 8 / 1000 / (length / SAMPLE_RATE))


def ogg_payload_bytes(data: bytes) -> int:
    """Bytes of the sound packets in an Ogg Opus stream, without page headers and the two header packets."""
    position, packets, payload = 0, 0, 0
    while position < len(data):
        assert data[position : position + 4] == b"OggS", f"no Ogg page at byte {position}"
        num_segments = data[position + 26]
        sizes = data[position + 27 : position + 27 + num_segments]
        for size in sizes:
            if packets >= HEADER_PACKETS:
                payload += size
            packets += size < 255  # a segment shorter than 255 bytes ends its packet
        position += 27 + num_segments + sum(sizes)
    return payload
