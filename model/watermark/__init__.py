"""An inaudible mark in generated sound, keyed and carrying 16 bits.

    key = WatermarkKey.random()
    marked = embed(waveform, key, payload=4711)
    find(marked, [key])  # Mark(present=True, p_value=1e-30, payload=4711, ...)

Written from spread-spectrum watermarking (Cox et al. 1997) on log energies of mel bands ("patchwork"): nothing is
trained. numpy only. The parts: `key`, `code` (16 bits under error correction), `pattern` (which cell carries what),
`bands` (the time-frequency grid), `embedding`, `features`, `hypotheses` (speed, tempo, pitch), `search`, `segments`
and `detection`, which puts them together.
"""

from model.watermark.code import MAX_PAYLOAD
from model.watermark.detection import Mark, find
from model.watermark.embedding import Embedder, embed
from model.watermark.key import WatermarkKey

__all__ = ["MAX_PAYLOAD", "Embedder", "Mark", "WatermarkKey", "embed", "find"]
