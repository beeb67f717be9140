"""Spectrogram pictures as PNG bytes, with nothing but numpy and zlib.

Decisions held here: log-mel of 64 ms windows, 70 dB from the loudest point down, one colour scale that is readable in
light and dark pages and for colour-blind readers (dark violet to pale yellow, lightness rising evenly).
"""

from __future__ import annotations

import struct
import zlib

import numpy as np
from numpy.typing import NDArray

from model.config import SAMPLE_RATE
from model.evaluation.spectral import Waveform, log_mel

NUM_MELS = 80
WINDOW = 1024
COLUMNS_PER_SECOND = SAMPLE_RATE / (WINDOW // 4)
RANGE = 3.5  # decades of magnitude shown: 70 dB
SCALE = np.array(  # colours at equal steps
    [(10, 7, 34), (66, 10, 104), (147, 38, 103), (221, 81, 58), (252, 165, 10), (252, 255, 164)], np.float64
)
MARK = np.array([255, 255, 255], np.uint8)


def spectrogram(waveform: Waveform, marks: tuple[float, ...] = ()) -> bytes:
    """PNG of the log-mel spectrogram of a clip [N], low tones at the bottom, 160 pixels high.

    `marks` are moments in seconds at which a white line is drawn (where the continuation begins).
    """
    picture = log_mel(waveform, WINDOW, NUM_MELS)[::-1]  # (n_mels, frames), high tones first
    shade = np.clip(1.0 + (picture - picture.max()) / RANGE, 0.0, 1.0)
    pixels = _colours(np.repeat(shade, 2, axis=0))
    for moment in marks:
        column = min(round(moment * COLUMNS_PER_SECOND), pixels.shape[1] - 1)
        pixels[:, column] = MARK
    return png(pixels)


def _colours(shade: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Shades 0..1 [H, W] to colours [H, W, 3]."""
    places = np.linspace(0.0, 1.0, len(SCALE))
    channels = [np.interp(shade, places, SCALE[:, channel]) for channel in range(3)]
    return np.stack(channels, axis=-1).round().astype(np.uint8)


def png(pixels: NDArray[np.uint8]) -> bytes:
    """Encode RGB `pixels` [H, W, 3] (PNG specification, ISO/IEC 15948): one IDAT chunk, no filters."""
    height, width, _ = pixels.shape
    rows = np.zeros((height, 1 + 3 * width), np.uint8)  # a leading 0 per row: no filter
    rows[:, 1:] = pixels.reshape(height, -1)
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunks = [(b"IHDR", header), (b"IDAT", zlib.compress(rows.tobytes(), 9)), (b"IEND", b"")]
    body = b"".join(
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
        for name, data in chunks
    )
    return b"\x89PNG\r\n\x1a\n" + body
