"""Tables and the report: complete, escaped, and asking nothing of any server."""

from __future__ import annotations

import base64
import io
import re
import struct
import zlib

import numpy as np
import pytest
import soundfile

from model.evaluation.picture import png, spectrogram
from model.evaluation.report import Example, render_report
from model.evaluation.statistics import bootstrap_mean, share
from model.evaluation.table import Table, interval, number, percent
from tests.model.evaluation.signals import speech_like

TABLE = Table("Codec <on> speech", ("", "PESQ"), [("codec | 1", "2.10"), ("Opus & co", "–")], "A note.")


def test_markdown() -> None:
    lines = TABLE.markdown().splitlines()
    assert lines[0] == "**Codec <on> speech**"
    assert lines[2:5] == ["|  | PESQ |", "| --- | ---: |", r"| codec \| 1 | 2.10 |"]
    assert lines[-1] == "A note."


def test_html_is_escaped() -> None:
    page = TABLE.html()
    assert "Codec &lt;on&gt; speech" in page
    assert "Opus &amp; co" in page


@pytest.fixture(scope="module")
def page() -> str:
    example = Example("speech: <clip>", speech_like(0), speech_like(1), speech_like(2))
    return render_report("Evaluation", ["Machine: a <small> one"], [TABLE], [example])


def test_report_asks_nothing_of_any_server(page: str) -> None:
    assert "http" not in page
    assert "//" not in re.sub(r"base64,[A-Za-z0-9+/=]+", "", page)
    sources = re.findall(r'(?:src|href)="([^"]*)"', page)
    assert len(sources) == 4
    assert all(source.startswith("data:") for source in sources)


def test_report_holds_the_samples_that_were_made(page: str) -> None:
    sounds = re.findall(r"data:audio/flac;base64,([^\"]+)", page)
    waveform, rate = soundfile.read(io.BytesIO(base64.b64decode(sounds[0])), dtype="float32")
    assert rate == 16_000
    np.testing.assert_allclose(waveform, np.concatenate([speech_like(0), speech_like(1)]), atol=1 / 32768)


def test_report_is_escaped_and_follows_the_color_scheme(page: str) -> None:
    assert "speech: &lt;clip&gt;" in page
    assert "a &lt;small&gt; one" in page
    assert "prefers-color-scheme: dark" in page


def test_png_holds_its_pixels() -> None:
    pixels = np.arange(2 * 3 * 3, dtype=np.uint8).reshape(2, 3, 3)
    data = png(pixels)
    assert struct.unpack(">II", data[16:24]) == (3, 2)
    length = struct.unpack(">I", data[33:37])[0]
    rows = np.frombuffer(zlib.decompress(data[41 : 41 + length]), np.uint8).reshape(2, 10)
    np.testing.assert_array_equal(rows[:, 1:].reshape(2, 3, 3), pixels)


def test_spectrogram_of_a_low_tone_is_bright_at_the_bottom() -> None:
    time = np.arange(16_000) / 16_000
    data = spectrogram(np.sin(2 * np.pi * 200 * time).astype(np.float32))
    width, height = struct.unpack(">II", data[16:24])
    length = struct.unpack(">I", data[33:37])[0]
    rows = np.frombuffer(zlib.decompress(data[41 : 41 + length]), np.uint8).reshape(height, 1 + 3 * width)
    light = rows[:, 1:].astype(float).mean(axis=1)
    assert light[height // 2 :].max() > 2 * light[: height // 2].max()


def test_intervals_hold_the_mean_and_shrink() -> None:
    rng = np.random.default_rng(0)
    few, many = (bootstrap_mean(rng.normal(3.0, 1.0, count).tolist(), rng) for count in (10, 400))
    assert many.low < 3.0 < many.high
    assert many.high - many.low < 0.5 * (few.high - few.low)
    assert bootstrap_mean([1.0, float("nan")], rng).count == 1


def test_share_stays_honest_at_the_edge() -> None:
    perfect = share(10, 10)
    assert perfect.high == pytest.approx(1.0)
    assert 0.6 < perfect.low < 0.8
    assert share(0, 0).count == 0


def test_numbers_as_text() -> None:
    estimate = {"mean": 0.5, "low": 0.25, "high": 0.75, "count": 4}
    assert interval(estimate) == "0.50 (0.25 to 0.75)"
    assert interval(estimate, as_percent=True) == "50 % (25–75)"
    assert interval({"mean": float("nan"), "low": 0, "high": 0, "count": 0}) == "–"
    assert number(None) == number(float("nan")) == percent(float("nan")) == "–"
