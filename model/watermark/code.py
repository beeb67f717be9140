"""16 payload bits as 64 code bits, and back by maximum likelihood.

The extended BCH code (64, 16): any two words differ in at least 24 bits. 65,536 words are few enough to compare what
was heard with all of them, so every soft value counts. Knows no sound.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
import numpy.typing as npt

from model.errors import ConfigError

PAYLOAD_BITS = 16
CODE_BITS = 64
NUM_WORDS = 1 << PAYLOAD_BITS
MAX_PAYLOAD = NUM_WORDS - 1
_GENERATOR = 0o6331141367235453  # BCH (63, 16), corrects 11 (Lin & Costello, Error Control Coding, table 6.4)

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Word:
    """The likeliest payload; `probability` is its share of the likelihood of all 65,536."""

    payload: int
    correlation: float
    probability: float


@cache
def _rows() -> npt.NDArray[np.uint8]:
    """[16, 64]: the code bits that each payload bit turns."""
    rows = np.zeros((PAYLOAD_BITS, CODE_BITS), np.uint8)
    generator = np.array([int(bit) for bit in f"{_GENERATOR:b}"], np.uint8)
    for shift in range(PAYLOAD_BITS):
        rows[shift, shift : shift + len(generator)] = generator
    rows[:, -1] = rows.sum(axis=1) % 2  # the parity bit that makes it (64, 16)
    return rows


@cache
def codebook() -> Floats:
    """[65536, 64] of +1 and -1: the word of each payload. 17 MB."""
    return _words(np.arange(NUM_WORDS))


def _words(payloads: npt.NDArray[np.int64]) -> Floats:
    bits = (payloads[:, None] >> np.arange(PAYLOAD_BITS)[None]) & 1
    words = bits.astype(np.float32) @ _rows().astype(np.float32)  # (n, 64); counts below 2^24 are exact
    signs: Floats = 1.0 - 2.0 * (words % 2)
    return signs


def encode(payload: int) -> Floats:
    """Code bits [64], +1 or -1. Raises ConfigError for a payload outside 0 to 65535."""
    if not 0 <= payload <= MAX_PAYLOAD:
        raise ConfigError(f"payload is {payload}; it must be from 0 to {MAX_PAYLOAD}")
    word: Floats = _words(np.array([payload]))[0]
    return word


def decode(soft: Floats, scale: float) -> Word:
    """Soft code bits [64], positive for +1; `scale` turns their correlation with a word into a log likelihood."""
    correlations = codebook() @ soft
    best = int(np.argmax(correlations))
    weights = np.exp(scale * (correlations - correlations[best]).astype(np.float64))
    return Word(best, float(correlations[best]), float(1.0 / weights.sum()))
