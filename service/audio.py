"""An uploaded clip as the samples that will be continued.

Holds which containers are accepted: by their first bytes, since a caller's Content-Type and file name may say
anything. Decoding itself, its bounds, and what makes a clip usable, is `model.audio`. Blocks; belongs on the pool of
audio threads.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import BinaryIO

import numpy as np
import numpy.typing as npt

from model.audio import SAMPLE_RATE, load_clip
from model.errors import AudioError
from service.errors import TooLarge, UnsupportedMedia

Samples = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Prompt:
    """A decoded upload. `samples` [N] at 16 kHz: the part that is continued; `bit_depth` 16 or 24."""

    samples: Samples
    bit_depth: int
    original_seconds: float
    original_sample_rate: int
    original_channels: int
    notes: tuple[str, ...]

    @property
    def seconds(self) -> float:
        return len(self.samples) / SAMPLE_RATE


def decode_upload(file: BinaryIO, *, keep_seconds: float, max_seconds: float) -> Prompt:
    """The last `keep_seconds` of an uploaded clip of at most `max_seconds`.

    Raises UnsupportedMedia for anything but WAV, FLAC, Ogg and MP3, TooLarge for too many seconds (as the header
    tells them and as they are decoded), AudioError for a clip that is damaged, too short, silent or not finite.
    """
    head = file.read(12)
    if media_type_of(head) is None:
        raise UnsupportedMedia(
            f"the upload begins with {head[:8]!r}; send WAV, FLAC, Ogg (Vorbis or Opus) or MP3",
            code="unsupported_audio",
        )
    try:
        clip = load_clip(file, max_seconds=keep_seconds, limit_seconds=max_seconds)
    except AudioError as error:
        if error.code == "too_long":
            raise TooLarge(str(error), code="too_long") from error
        raise
    return Prompt(
        samples=clip.waveform.numpy(),
        bit_depth=clip.bit_depth,
        original_seconds=clip.original_seconds,
        original_sample_rate=clip.original_rate,
        original_channels=clip.original_channels,
        notes=clip.notes,
    )


def media_type_of(head: bytes) -> str | None:
    """Media type of a file that begins with `head` (12 bytes); None for a kind that is not read."""
    if head[:4] in (b"RIFF", b"RIFX") and head[8:12] == b"WAVE":
        return "audio/wav"
    if head[:4] == b"fLaC":
        return "audio/flac"
    if head[:4] == b"OggS":
        return "audio/ogg"
    if head[:3] == b"ID3" or (len(head) >= 2 and head[0] == 0xFF and head[1] & 0xE6 == 0xE2):
        return "audio/mpeg"  # frame sync and layer III
    return None
