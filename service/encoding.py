"""Samples as a sound file, whole or piece by piece while they are being made.

Every length is known before the first sample, so a file that is sent while it grows can begin with the header of the
finished one: a live wav or pcm is byte for byte the whole one, a live flac, ogg or mp3 decodes to the same samples.
Blocks; belongs on the pool of audio threads. Knows nothing of requests.
"""

from __future__ import annotations

import struct
from io import BytesIO
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import soundfile

from model.audio import SAMPLE_RATE

Format = Literal["wav", "flac", "ogg", "mp3", "pcm"]
Samples = npt.NDArray[np.float32]

MEDIA_TYPES: dict[Format, str] = {
    "wav": "audio/wav",
    "flac": "audio/flac",
    "ogg": "audio/ogg",
    "mp3": "audio/mpeg",
    "pcm": "audio/pcm",
}
LOSSLESS: tuple[Format, ...] = ("wav", "flac", "pcm")

_WAV_HEADER_BYTES = 44
_FLAC_HEADER_BYTES = 42  # marker, block header, STREAMINFO (RFC 9639 section 8.2)
_MP3_TAG_BYTES = 288  # the frame that holds LAME's tag at 16 kHz mono
_BLOCK = 1 << 16  # libvorbis and libopus keep a whole write on their stack


def encode(samples: Samples, format: Format, bit_depth: int = 16) -> bytes:
    """`samples` [N] at 16 kHz as one complete file; wav and flac hold `bit_depth` (16 or 24) bits."""
    encoder = open_encoder(format, len(samples), bit_depth, live=False)
    return encoder.feed(samples) + encoder.close()


def open_encoder(
    format: Format, num_samples: int, bit_depth: int = 16, *, live: bool = True
) -> WaveEncoder | FileEncoder:
    """The encoder for `num_samples` samples; `live` when its bytes leave before all of them exist."""
    if format == "pcm":
        return WaveEncoder(num_samples, 16, header=False)
    if format == "wav":
        return WaveEncoder(num_samples, bit_depth, header=True)
    return FileEncoder(format, num_samples, bit_depth, live=live)


def quantize(samples: Samples, bit_depth: int) -> npt.NDArray[Any]:
    """[N] in -1..1 to int16, or to 24 bits in int32: the inverse of reading them, so a prompt's samples come back."""
    steps = 1 << (bit_depth - 1)
    scaled = np.rint(
        samples * np.float32(steps)
    )  # exact: a float32 holds 24 bits, and steps is a power of two
    clipped: Samples = np.clip(scaled, -steps, steps - 1, out=scaled)
    return clipped.astype(np.int16 if bit_depth == 16 else np.int32)


class WaveEncoder:
    """Little-endian integers, after a WAV header or none."""

    def __init__(self, num_samples: int, bit_depth: int, *, header: bool) -> None:
        self._bytes_each = bit_depth // 8
        self._bit_depth = bit_depth
        self._header = _wav_header(num_samples, bit_depth) if header else b""
        self.num_bytes: int | None = len(self._header) + _padded(num_samples * self._bytes_each, header)
        self._sent = 0

    def feed(self, samples: Samples) -> bytes:
        """Bytes for `samples` [n]."""
        values = quantize(samples, self._bit_depth)
        if self._bytes_each == 2:
            data = values.astype("<i2", copy=False).tobytes()
        else:
            data = values.astype("<i4", copy=False).view(np.uint8).reshape(-1, 4)[:, :3].tobytes()
        data, self._header = self._header + data, b""
        self._sent += len(data)
        return data

    def close(self) -> bytes:
        """What is missing at the end: the pad byte of an odd WAV chunk."""
        assert self.num_bytes is not None
        rest = self._header + bytes(self.num_bytes - self._sent - len(self._header))
        self._sent = self.num_bytes
        return rest


def _padded(size: int, in_chunk: bool) -> int:
    return size + size % 2 if in_chunk else size


def _wav_header(num_samples: int, bit_depth: int) -> bytes:
    width = bit_depth // 8
    size = num_samples * width
    form = struct.pack("<HHIIHH", 1, 1, SAMPLE_RATE, SAMPLE_RATE * width, width, bit_depth)
    riff_size = _WAV_HEADER_BYTES - 8 + _padded(size, True)
    return struct.pack("<4sI4s4sI16s4sI", b"RIFF", riff_size, b"WAVE", b"fmt ", 16, form, b"data", size)


class FileEncoder:
    """flac, ogg (Opus) and mp3 through libsndfile."""

    num_bytes: int | None = None  # nobody knows before the end

    def __init__(
        self, format: Literal["flac", "ogg", "mp3"], num_samples: int, bit_depth: int, *, live: bool
    ) -> None:
        self._format = format
        self._num_samples = num_samples
        self._bit_depth = bit_depth
        self._live = live
        self._sink = _Sink()
        self._file = _open(self._sink, format, bit_depth)
        self._header_due = live

    def feed(self, samples: Samples) -> bytes:
        """Append `samples` [n]; the bytes that are final by now, possibly none."""
        _write(self._file, samples, self._format, self._bit_depth)
        return self._take() if self._live else b""

    def close(self) -> bytes:
        """The rest of the file."""
        self._file.close()
        return self._take()

    def _take(self) -> bytes:
        data = self._sink.take()
        if self._header_due and data:
            self._header_due = False
            data = self._finished_header(data)
        return data

    def _finished_header(self, data: bytes) -> bytes:
        """The start of the file with what encoders write there only at the end: how long the sound is."""
        if self._format == "flac":  # 36 bits from the middle of byte 21; unknown frame sizes and MD5 stay 0
            total = int.from_bytes(data[21:26], "big") >> 36 << 36 | self._num_samples
            return data[:21] + total.to_bytes(5, "big") + data[26:]
        if (
            self._format == "mp3"
        ):  # number of frames and padding depend on the length alone: silence has the same
            silence = _Sink()
            file = _open(silence, "mp3", self._bit_depth)
            _write(file, np.zeros(self._num_samples, np.float32), "mp3", self._bit_depth)
            file.close()
            return _without_byte_count(silence.take()[:_MP3_TAG_BYTES]) + data[_MP3_TAG_BYTES:]
        return data


def _without_byte_count(frame: bytes) -> bytes:
    """LAME's tag frame without the fields that depend on what the bytes hold: their number and the seek table."""
    start = frame.index(b"Xing")
    frames_and_quality = (9).to_bytes(4, "big")
    before, frames, after = frame[: start + 4], frame[start + 8 : start + 12], frame[start + 116 :]
    return (before + frames_and_quality + frames + after).ljust(_MP3_TAG_BYTES, b"\0")


def _open(sink: _Sink, format: str, bit_depth: int) -> Any:
    subtype = {"flac": f"PCM_{bit_depth}", "ogg": "OPUS", "mp3": "MPEG_LAYER_III"}[format]
    return soundfile.SoundFile(sink, "w", SAMPLE_RATE, 1, subtype, format=format.upper())


def _write(file: Any, samples: Samples, format: str, bit_depth: int) -> None:
    values: npt.NDArray[Any] = np.clip(samples, -1.0, 1.0)
    if format == "flac":
        values = quantize(samples, bit_depth)
        if bit_depth == 24:
            values = values << 8
    for start in range(0, len(values), _BLOCK):
        file.write(values[start : start + _BLOCK])


class _Sink(BytesIO):
    """The file libsndfile writes to. What was taken has been sent: later changes to it are dropped."""

    def __init__(self) -> None:
        super().__init__()
        self._sent = 0

    def take(self) -> bytes:
        """Bytes not taken before."""
        end = self.seek(0, 2)
        self.seek(self._sent)
        data = self.read()
        self._sent = end
        return data
