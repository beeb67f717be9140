"""What a sound file claims about its own length, held against the bytes that are there.

libsndfile quietly shortens a WAV that was cut off in transfer and mpg123 writes warnings to stderr about such an
MP3; a clip that lost its end must be refused instead, since its end is exactly what would be continued.
Headers written by pipes (sizes of 0 or near 2^31, 2^32) claim nothing and pass. Knows no samples.
"""

from __future__ import annotations

import re
from typing import BinaryIO

_CHUNK = re.compile(r"^\s*(?:data|SSND|riff) : (\d+) \(should be (\d+)\)", re.MULTILINE)
_UNKNOWN_SIZE = 0x7FFF_0000  # pipes write sizes at or above this


def log_tells_truncation(log: str) -> bool:
    """Whether libsndfile's log of an opened file (`SoundFile.extra_info`) reports audio that is missing."""
    if "Ogg : Junk after the last page" in log or "Ogg: Junk after the last page" in log:
        return True  # a page that starts and does not end
    return any(
        int(actual) + 1 < int(claimed) < _UNKNOWN_SIZE  # + 1: writers that forget the pad byte
        for claimed, actual in _CHUNK.findall(log)
    )


def mp3_is_truncated(file: BinaryIO) -> bool:
    """Whether an MP3's Xing or Info tag promises more bytes than follow. False for anything else.

    Leaves the file where it was.
    """
    start = file.tell()
    size = file.seek(0, 2)
    file.seek(start)
    head = file.read(10)
    frame = start
    if head[:3] == b"ID3" and len(head) == 10:
        a, b, c, d = head[6:10]
        frame += 10 + (a << 21 | b << 14 | c << 7 | d)  # a synchsafe integer: 7 bits per byte
    file.seek(frame)
    first = file.read(64)
    file.seek(start)
    if len(first) < 4 or first[0] != 0xFF or first[1] & 0xE0 != 0xE0:
        return False
    tag = max(first.find(b"Xing"), first.find(b"Info"))
    if tag < 0 or len(first) < tag + 16:
        return False
    flags = int.from_bytes(first[tag + 4 : tag + 8], "big")
    if not flags & 2:  # no byte count
        return False
    position = tag + 8 + (4 if flags & 1 else 0)
    claimed = int.from_bytes(first[position : position + 4], "big")
    return size - frame < claimed
