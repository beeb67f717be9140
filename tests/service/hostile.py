"""Uploads that nobody sends by mistake, and some that people do. Made here, so none is kept in the repository."""

from __future__ import annotations

import io
import struct
import zipfile
from collections.abc import Iterator

import numpy as np
import soundfile

from tests.service.conftest import clip, sound_file, tone

# (name, bytes, statuses that are right). 200 stands where a decoder may make sense of what is left.
Case = tuple[str, bytes, tuple[int, ...]]


def wav(
    *, rate: int = 16_000, channels: int = 1, bits: int = 16, tag: int = 1, size: int | None = None
) -> bytes:
    """A second of sound under a header that says whatever is asked."""
    data = clip()[44:]
    size = len(data) if size is None else size
    align = channels * bits // 8 & 0xFFFF
    form = struct.pack("<HHIIHH", tag, channels, rate, rate * align & 0xFFFFFFFF, align, bits)
    return (
        b"RIFF"
        + struct.pack("<I", size + 36 & 0xFFFFFFFF)
        + b"WAVEfmt \x10\0\0\0"
        + form
        + b"data"
        + struct.pack("<I", size)
        + data
    )


def long_silence(format: str, subtype: str, seconds: int, rate: int = 8_000) -> bytes:
    """Very few bytes for very many samples."""
    file = io.BytesIO()
    block = np.zeros(10 * rate, np.int16)
    block[0] = 8_000
    with soundfile.SoundFile(file, "w", rate, 1, subtype, format=format) as sound:
        for _ in range(seconds // 10):
            sound.write(block)
    return file.getvalue()


def flac_with_total(data: bytes, total: int) -> bytes:
    """The same FLAC, stating another number of samples (36 bits from the middle of byte 21; 0: unknown)."""
    field = int.from_bytes(data[21:26], "big") >> 36 << 36 | total
    return data[:21] + field.to_bytes(5, "big") + data[26:]


def not_audio() -> Iterator[Case]:
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("bomb", bytes(5_000_000))
    for name, data in {
        "one byte": b"\0",
        "text": b"hello",
        "html": b"<!doctype html><script>alert(1)</script>" * 100,
        "zip bomb": archive.getvalue(),
        "png": b"\x89PNG\r\n\x1a\n" + bytes(100),
        "elf": b"\x7fELF" + bytes(100),
        "avi": b"RIFF" + struct.pack("<I", 100) + b"AVI " + bytes(100),
        "random": np.random.default_rng(0).bytes(10_000),
        "playlist": b"#EXTM3U\nhttp://169.254.169.254/latest/meta-data",
        "aiff": sound_file(tone(1.0), format="AIFF"),
        "au": sound_file(tone(1.0), format="AU"),
        "w64": sound_file(tone(1.0), format="W64"),
        "utf-16": "ＲＩＦＦ".encode("utf-16"),
    }.items():
        yield name, data, (415,)


def damaged() -> Iterator[Case]:
    good = {
        "wav": clip(),
        "flac": sound_file(tone(2.0), format="FLAC"),
        "vorbis": sound_file(tone(2.0), format="OGG", subtype="VORBIS"),
        "opus": sound_file(tone(2.0), format="OGG", subtype="OPUS"),
        "mp3": sound_file(tone(2.0), format="MP3"),
    }
    rng = np.random.default_rng(1)
    for name, data in good.items():
        for keep in (4, 12, 44, 60, len(data) // 3):
            yield f"{name} cut at {keep}", data[:keep], (415, 422, 200)
        for share in (0.001, 0.05, 1.0):
            noisy = np.frombuffer(data, np.uint8).copy()
            hit = rng.random(len(noisy)) < share
            hit[:4] = False
            noisy[hit] = rng.integers(0, 256, hit.sum(), dtype=np.uint8)
            yield f"{name} with {share:.1%} noise", noisy.tobytes(), (200, 413, 415, 422)
        yield f"{name} and 100 kB of junk", data + rng.bytes(100_000), (200, 415, 422)
    yield "an ID3 tag and nothing", b"ID3\4\0\0\x7f\x7f\x7f\x7f", (422,)
    yield "an ID3 tag of zeros", b"ID3\4\0\0\0\0\0\0" + bytes(100_000), (422,)
    yield "mp3 sync words only", b"\xff\xfb\x90\x00" * 10_000, (200, 422)
    yield "an Ogg page with nothing in it", b"OggS" + bytes(1_000), (422,)


def lying() -> Iterator[Case]:
    for rate in (0, 1, 100, 2**31 - 1, 2**32 - 1):
        yield f"wav at {rate} Hz", wav(rate=rate), (413, 415, 422)
    for channels in (0, 1025, 65_535):
        yield f"wav with {channels} channels", wav(channels=channels), (422,)
    yield "wav with 1000 channels", wav(channels=1000), (422,)
    yield "wav with 0 bits", wav(bits=0), (422,)
    yield "wav of an unknown codec", wav(tag=0x1234), (422,)
    yield "wav that says ADPCM", wav(tag=2, bits=4), (422, 200)
    yield "wav that says 2 GB", wav(size=2**31 - 100_000), (422, 200)
    yield "wav from a pipe", wav(size=2**32 - 1), (200,)
    floats = tone(1.0)
    for name, value in {"nan": np.nan, "inf": np.inf, "-inf": -np.inf}.items():
        floats = tone(1.0).copy()
        floats[5_000] = value
        yield f"wav with {name}", sound_file(floats, subtype="FLOAT"), (422,)
    yield "wav with huge samples", sound_file(tone(1.0).astype(np.float64) * 1e300, subtype="DOUBLE"), (422,)
    yield "wav with loud samples", sound_file(tone(1.0) * 1e6, subtype="FLOAT"), (200,)
    yield "silence", sound_file(np.zeros(32_000, np.float32)), (422,)
    yield "too short", clip(0.1), (422,)


def bombs(max_seconds: int) -> Iterator[Case]:
    """Each decodes to five times `max_seconds`."""
    seconds = 5 * max_seconds
    flac = long_silence("FLAC", "PCM_16", seconds)
    yield "flac bomb", flac, (413,)
    yield "flac bomb that does not say", flac_with_total(flac, 0), (413,)
    yield "flac bomb that says little", flac_with_total(flac, 8_000), (200, 413, 422)
    yield (
        "flac that says 2^36 - 1 samples",
        flac_with_total(sound_file(tone(2.0), format="FLAC"), 2**36 - 1),
        (413, 422),
    )
    yield "opus bomb", long_silence("OGG", "OPUS", seconds), (413,)
    yield "vorbis bomb", long_silence("OGG", "VORBIS", seconds), (413,)
    yield "mp3 bomb", long_silence("MP3", "MPEG_LAYER_III", seconds), (413,)


def forms() -> Iterator[tuple[str, str, bytes, tuple[int, ...]]]:
    """(name, content type, body, statuses)."""
    kind = "multipart/form-data; boundary=x"

    def part(name: str, value: bytes, extra: str = "") -> bytes:
        return (
            f'--x\r\nContent-Disposition: form-data; name="{name}"{extra}\r\n\r\n'.encode() + value + b"\r\n"
        )

    file = part("file", clip(), '; filename="a.wav"')
    end = b"--x--\r\n"
    yield "100,000 fields", kind, b"".join(part(f"f{i}", b"") for i in range(100_000)) + end, (400,)
    yield "a field of a megabyte", kind, part("seed", b"1" * 2**20) + file + end, (400,)
    yield "a header of a megabyte", kind, part("seed", b"1", "; x=" + "y" * 2**20) + file + end, (400,)
    yield "two files", kind, file + file + end, (400,)
    yield "no file", kind, part("seed", b"1") + end, (422,)
    yield "a file under another name", kind, part("clip", clip(), '; filename="a.wav"') + end, (400,)
    yield "an empty file", kind, part("file", b"", '; filename="a.wav"') + end, (422,)
    yield "no end", kind, file, (400,)
    yield "no boundary", "multipart/form-data", file + end, (400,)
    yield "another boundary", "multipart/form-data; boundary=yy", file + end, (400,)
    yield "an endless boundary", "multipart/form-data; boundary=" + "x" * 5_000, file + end, (400,)
    yield "a part without a name", kind, b"--x\r\nContent-Type: a/b\r\n\r\n1\r\n" + file + end, (400,)
    yield "nothing", kind, b"", (400,)
    yield "an unknown field", kind, part("secnods", b"5") + file + end, (422,)
    yield "a field that is not UTF-8", kind, part("seed", b"\xff\xfe") + file + end, (422,)
    yield "url-encoded", "application/x-www-form-urlencoded", b"a=b&" * 100_000, (415,)
    yield "JSON", "application/json", b'{"file": "x"}', (415,)
    yield "a type that is no type", "\xff/;;;=", clip(), (415,)
    yield "nothing at all", "audio/wav", b"", (422,)
