"""Clips: any file libsndfile reads, as 16 kHz mono samples, and back to a file.

Decides what a usable clip is (rates, length, finite, not silent, not cut off) and that a long file is read only
where it is needed. Files are written in full or not at all. Knows nothing of tokens or of HTTP.
"""

from __future__ import annotations

import os
from collections import deque
from contextlib import suppress
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import BinaryIO

import numpy as np
import numpy.typing as npt
import soundfile
import torch
from torch import Tensor

from model.config import SAMPLE_RATE as SAMPLE_RATE
from model.containers import log_tells_truncation, mp3_is_truncated
from model.errors import AudioError

MIN_SECONDS = 0.5  # shorter prompts say too little about the voice
MIN_RATE, MAX_RATE = 2_000, 768_000  # outside, a header lies; a forged rate would also forge the duration
SILENCE_PEAK = 5e-4  # -66 dBFS: dither and the noise of a muted input stay below
FORMATS = {".wav": "WAV", ".flac": "FLAC", ".ogg": "OGG", ".mp3": "MP3"}

# Values decoded at a time: a file of 1,024 channels needs no more memory than a mono one. libsndfile clears what it
# cannot fill, so a block much larger than a short clip costs more than the clip.
_BLOCK = 1 << 16
_UNKNOWN_FRAMES = 1 << 62  # what libsndfile reports for a stream that does not say
_WIDE = {"PCM_24", "PCM_32", "FLOAT", "DOUBLE"}

Samples = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Clip:
    """A decoded clip. `waveform` [N] float32, 16 kHz mono; `notes` say what was done to get there."""

    waveform: Tensor
    original_rate: int
    original_channels: int
    original_seconds: float
    bit_depth: (
        int  # 16, or 24 when the source has more than 16 bits: what keeps its samples untouched in a file
    )
    notes: tuple[str, ...]

    @property
    def seconds(self) -> float:
        return self.waveform.shape[0] / SAMPLE_RATE


class _ForwardFile(soundfile.SoundFile):  # type: ignore[misc]
    """A sound file that is positioned at most once and then read forwards.

    SoundFile seeks after every read of a seekable file, which fails at the end of a FLAC from a pipe.
    """

    def seekable(self) -> bool:
        return False


def load_clip(
    source: str | Path | BinaryIO,
    *,
    max_seconds: float | None = None,
    last: bool = True,
    limit_seconds: float | None = None,
) -> Clip:
    """Decode `source`, mix down and resample.

    `max_seconds` keeps only the last (or, with `last=False`, the first) seconds and decodes no others, so that a
    long recording stays cheap; `limit_seconds` refuses a longer one. Raises AudioError with the codes
    missing_file, empty_audio, unreadable_audio, truncated, bad_rate, too_long, too_short, non_finite, silent.
    """
    name = str(source) if isinstance(source, str | Path) else "the audio"
    opened: BinaryIO | None = None
    try:
        file = opened = open(source, "rb") if isinstance(source, str | Path) else source  # noqa: SIM115
        if file.seek(0, 2) == 0:
            raise AudioError(f"{name} is empty", code="empty_audio")
        file.seek(0)
        if mp3_is_truncated(file):
            raise AudioError(f"{name} is truncated: its header promises more than it holds", code="truncated")
        with _ForwardFile(file) as sound:
            return _decode(sound, name, max_seconds, last, limit_seconds)
    except OSError as error:
        raise AudioError(f"{name}: {error.strerror or error}", code="missing_file") from error
    except soundfile.LibsndfileError as error:
        reason = error.error_string.rstrip(".") or "damaged data"
        raise AudioError(f"{name} cannot be read as audio: {reason}") from error
    finally:
        if opened is not None and opened is not source:
            opened.close()


def _decode(
    sound: soundfile.SoundFile, name: str, max_seconds: float | None, last: bool, limit_seconds: float | None
) -> Clip:
    rate, channels, total = sound.samplerate, sound.channels, sound.frames
    if not MIN_RATE <= rate <= MAX_RATE:
        raise AudioError(
            f"{name} states a sampling rate of {rate} Hz; {MIN_RATE} to {MAX_RATE} Hz can be used",
            code="bad_rate",
        )
    if log_tells_truncation(sound.extra_info):
        raise AudioError(f"{name} is truncated: its header promises more than it holds", code="truncated")
    limit = _UNKNOWN_FRAMES if limit_seconds is None else int(limit_seconds * rate)
    known = 0 < total < _UNKNOWN_FRAMES
    if known and total > limit:
        raise AudioError(_too_long(name, total / rate, limit_seconds), code="too_long")
    wanted = _UNKNOWN_FRAMES if max_seconds is None else int(max_seconds * rate)
    skipped = max(0, total - wanted) if known and last else 0
    if skipped:
        sound.seek(skipped)
    blocks: deque[Samples] = deque()
    decoded = kept = 0
    while last or kept < wanted:
        block = sound.read(max(1, _BLOCK // channels), dtype="float32", always_2d=True)
        if len(block) == 0:
            break
        blocks.append(block.mean(axis=1) if channels > 1 else block[:, 0])
        decoded += len(block)
        kept += len(block)
        if decoded > limit:  # the header lied
            raise AudioError(_too_long(name, decoded / rate, limit_seconds), code="too_long")
        while kept - len(blocks[0]) >= wanted:
            kept -= len(blocks.popleft())
    expected = min(total, wanted) if known else 0
    if decoded < expected and sound.format != "MP3":  # an MP3 without a tag states only an estimate
        raise AudioError(
            f"{name} is truncated: {decoded / rate:.1f} s of {expected / rate:.1f} s could be read",
            code="truncated",
        )
    if not blocks:
        raise AudioError(f"{name} holds no samples", code="empty_audio")
    samples = np.concatenate(blocks)
    samples = samples[-wanted:] if last else samples[:wanted]
    whole = total if known and not last else skipped + decoded
    _check(samples, rate, name)
    notes = []
    if channels > 1:
        notes.append(f"mixed {channels} channels to one")
    if rate != SAMPLE_RATE:
        notes.append(f"resampled from {rate} Hz")
    if len(samples) < whole:
        part = "last" if last else "first"
        notes.append(f"kept the {part} {len(samples) / rate:.1f} s of {whole / rate:.1f} s")
    return Clip(
        waveform=torch.from_numpy(_resample(samples, rate)),
        original_rate=rate,
        original_channels=channels,
        original_seconds=whole / rate,
        bit_depth=24 if sound.subtype in _WIDE else 16,
        notes=tuple(notes),
    )


def _too_long(name: str, seconds: float, limit_seconds: float | None) -> str:
    return f"{name} lasts {seconds:.0f} s, at most {limit_seconds:.0f} s can be used"


def _check(samples: Samples, rate: int, name: str) -> None:
    if len(samples) < MIN_SECONDS * rate:
        raise AudioError(
            f"{name} lasts {len(samples) / rate:.2f} s, at least {MIN_SECONDS} s are needed", code="too_short"
        )
    finite = np.isfinite(samples)
    if not finite.all():
        at = int(np.argmin(finite)) / rate
        raise AudioError(
            f"{name} holds samples that are not numbers, the first at {at:.3f} s", code="non_finite"
        )
    peak = float(np.abs(samples).max())
    if peak < SILENCE_PEAK:
        raise AudioError(f"{name} is silent: its peak is {peak:.1g} of full scale", code="silent")


def _resample(samples: Samples, rate: int) -> Samples:
    """[N] at `rate` to [round(N * 16000 / rate)] at 16 kHz."""
    if rate == SAMPLE_RATE:
        return np.ascontiguousarray(samples)
    import soxr  # here, because training on an offline machine reads 16 kHz maps and does not have it

    length = round(len(samples) * SAMPLE_RATE / rate)
    resampled = soxr.resample(samples, rate, SAMPLE_RATE)[:length]
    return np.pad(resampled, (0, length - len(resampled))).astype(np.float32, copy=False)


def format_of(path: str | Path) -> str:
    """libsndfile's name for the format that the file name asks for. Raises AudioError (unknown_format)."""
    suffix = Path(path).suffix.lower()
    if suffix not in FORMATS:
        raise AudioError(f"{path}: write to one of {', '.join(FORMATS)}", code="unknown_format")
    return FORMATS[suffix]


def check_target(path: str | Path) -> None:
    """Raise AudioError if `save_clip` could not write there, before the work that fills it is done."""
    format_of(path)
    folder = Path(path).parent
    if not folder.is_dir():
        raise AudioError(f"{path} cannot be written: {folder} is no folder", code="unwritable_output")


def save_clip(
    target: str | Path | BinaryIO, waveform: Tensor, format: str | None = None, *, bit_depth: int = 16
) -> None:
    """Write `waveform` [N] at 16 kHz; a path appears complete or not at all.

    `format` is WAV, FLAC, OGG or MP3, by default what the path's suffix says, else WAV. WAV and FLAC hold
    `bit_depth` (16 or 24) bits and give back exactly the samples of a source that had no more.
    Raises AudioError (unknown_format, unwritable_output).
    """
    if not isinstance(target, str | Path):
        _write(target, waveform, format or "WAV", bit_depth)
        return
    file = BytesIO()
    _write(file, waveform, format or format_of(target), bit_depth)
    write_file(target, file.getvalue())


def write_file(target: str | Path, data: bytes) -> None:
    """Write `data` to the path `target`, which appears complete or not at all. Raises AudioError."""
    path = Path(target)
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        part.write_bytes(data)
        os.replace(part, path)
    except OSError as error:
        raise AudioError(
            f"{path} cannot be written: {error.strerror or error}", code="unwritable_output"
        ) from error
    finally:
        with suppress(FileNotFoundError):
            part.unlink()


def _write(file: BinaryIO, waveform: Tensor, format: str, bit_depth: int) -> None:
    lossless = format in ("WAV", "FLAC")
    subtype = f"PCM_{bit_depth}" if lossless else None
    samples = waveform.detach().cpu().numpy()
    with soundfile.SoundFile(file, "w", SAMPLE_RATE, 1, subtype, format=format) as sound:
        for start in range(0, len(samples), _BLOCK):  # libvorbis overflows its stack on one long write
            block = samples[start : start + _BLOCK]
            sound.write(_integers(block, bit_depth) if lossless else np.clip(block, -1, 1))


def _integers(samples: Samples, bit_depth: int) -> npt.NDArray[np.int32]:
    """Samples in steps of 2^-(bit_depth - 1), in the upper bits of 32, as libsndfile takes integers.

    Given floats, it would scale them by 2^15 - 1 and so move every loud sample by one step.
    """
    steps = 1 << (bit_depth - 1)
    whole = np.clip(np.rint(samples.astype(np.float64) * steps), -steps, steps - 1)
    return whole.astype(np.int32) << (32 - bit_depth)
