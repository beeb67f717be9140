"""The secret that decides which cells of sound are raised and which are lowered.

Without it the mark can neither be found nor forged. Everything drawn from it comes from SHAKE-256, so that the same
key gives the same pattern on every machine and in every version of numpy. Knows no sound.
"""

from __future__ import annotations

import hashlib
import secrets
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from model.errors import ConfigError

MIN_BYTES = 16
_RANDOM_BYTES = 32


@dataclass(frozen=True)
class WatermarkKey:
    """Raises ConfigError for a secret of fewer than 16 bytes."""

    secret: bytes = field(repr=False)

    def __post_init__(self) -> None:
        if len(self.secret) < MIN_BYTES:
            raise ConfigError(
                f"a watermark key has at least {MIN_BYTES} bytes; this one has {len(self.secret)}"
            )

    @classmethod
    def random(cls) -> WatermarkKey:
        return cls(secrets.token_bytes(_RANDOM_BYTES))

    @classmethod
    def from_hex(cls, text: str) -> WatermarkKey:
        """Raises ConfigError for what is not hexadecimal; the message does not repeat the secret."""
        try:
            return cls(bytes.fromhex(text.strip()))
        except ValueError:
            raise ConfigError("a watermark key is written in hexadecimal digits, two per byte") from None

    def to_hex(self) -> str:
        return self.secret.hex()

    @property
    def key_id(self) -> str:
        """8 hexadecimal digits that tell keys apart and say nothing about them."""
        return hashlib.sha256(b"audiolm watermark key id\0" + self.secret).hexdigest()[:8]

    def draw(self, purpose: str, count: int) -> npt.NDArray[np.uint32]:
        """`count` numbers, uniform over 32 bits; another purpose gives others."""
        digest = hashlib.shake_256(purpose.encode() + b"\0" + self.secret).digest(4 * count)
        return np.frombuffer(digest, dtype="<u4").astype(np.uint32)
