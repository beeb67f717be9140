"""The HTML report: tables, players and spectrograms in one file that asks nothing of any server.

Sound is FLAC and pictures are PNG, both base64, so that what is heard is what was made. Light and dark follow the
reader's system. Knows no metrics: it is given tables and examples.
"""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import soundfile

from model.config import SAMPLE_RATE
from model.evaluation.picture import spectrogram
from model.evaluation.spectral import Waveform
from model.evaluation.table import Table

STYLE = """
:root { color-scheme: light dark; --text: #1c1b22; --dim: #5b5966; --line: #d9d7e0; --back: #fff; --band: #f6f5f9; }
@media (prefers-color-scheme: dark) {
  :root { --text: #eceaf2; --dim: #a5a2b3; --line: #3a3845; --back: #17161c; --band: #1f1e26; }
}
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 2rem 1.25rem 4rem; max-width: 66rem; background: var(--back); color: var(--text);
  font: 1rem/1.55 system-ui, sans-serif; }
h1 { font-size: 1.7rem; line-height: 1.2; margin: 0 0 .4rem; text-wrap: balance; }
h2 { font-size: 1.2rem; margin: 2.6rem 0 .8rem; }
.dim, .table p, figcaption { color: var(--dim); font-size: .9rem; }
.table { overflow-x: auto; margin: 1.6rem 0; }
.table p { margin: .5rem 0 0; max-width: 46rem; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; font-size: .93rem; }
caption { text-align: left; font-weight: 600; padding-bottom: .5rem; }
th, td { padding: .38rem .7rem; text-align: right; white-space: nowrap; border-bottom: 1px solid var(--line); }
th:first-child { text-align: left; }
thead th { color: var(--dim); font-weight: 500; }
tbody th { font-weight: 500; }
tbody tr:nth-child(even) { background: var(--band); }
.example { border-top: 1px solid var(--line); padding: 1.1rem 0 .4rem; }
.example h3 { font-size: 1rem; margin: 0 0 .6rem; }
.pair { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 22rem), 1fr)); gap: 1rem; }
figure { margin: 0; }
figure img { width: 100%; height: 10rem; border-radius: 4px; display: block; }
audio { width: 100%; margin-top: .4rem; }
"""


@dataclass(frozen=True)
class Example:
    """One continuation to listen to: prompt [N], continuation [M] and what the recording went on with."""

    title: str
    prompt: Waveform
    continuation: Waveform
    truth: Waveform


def render_report(
    title: str, facts: Sequence[str], tables: Sequence[Table], examples: Sequence[Example]
) -> str:
    """A whole HTML page. `facts` are one-line statements about the run (command, machine, bundle)."""
    lines = "".join(f'<p class="dim">{html.escape(fact)}</p>' for fact in facts)
    results = "".join(table.html() for table in tables)
    players = "".join(_example(example) for example in examples)
    heard = (
        "<h2>Listen</h2><p class='dim'>Each clip begins with the prompt; the white line is where it ends. "
        f"Left: what the model made. Right: the recording itself.</p>{players}"
        if examples
        else ""
    )
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{html.escape(title)}</title><style>{STYLE}</style></head>"
        f"<body><h1>{html.escape(title)}</h1>{lines}<h2>Results</h2>{results}{heard}</body></html>\n"
    )


def _example(example: Example) -> str:
    figures = "".join(
        _figure(label, np.concatenate([example.prompt, rest]), len(example.prompt) / SAMPLE_RATE)
        for label, rest in (
            ("prompt | continuation", example.continuation),
            ("prompt | recording", example.truth),
        )
    )
    return f'<section class="example"><h3>{html.escape(example.title)}</h3><div class="pair">{figures}</div></section>'


def _figure(label: str, waveform: Waveform, mark: float) -> str:
    picture = data_address("image/png", spectrogram(waveform, (mark,)))
    sound = data_address("audio/flac", flac(waveform))
    alt = f"spectrogram of {label}, {len(waveform) / SAMPLE_RATE:.1f} seconds"
    return (
        f'<figure><img src="{picture}" alt="{alt}"><audio controls preload="none" src="{sound}" '
        f'aria-label="{label}"></audio><figcaption>{label}</figcaption></figure>'
    )


def flac(waveform: Waveform) -> bytes:
    """A clip [N] as 16-bit FLAC."""
    file = io.BytesIO()
    soundfile.write(file, np.clip(waveform, -1.0, 1.0), SAMPLE_RATE, format="FLAC", subtype="PCM_16")
    return file.getvalue()


def data_address(media_type: str, data: bytes) -> str:
    """A data: address (RFC 2397)."""
    return f"data:{media_type};base64,{base64.b64encode(data).decode()}"
