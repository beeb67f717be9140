"""The provenance that the settings ask for: keys are read or made, the ledger is opened, certificates are tried out.

What cannot ever work (an unreadable key, a ledger of another version) stops the start with one message. A database
that does not answer does not: it may come back, and until then answers are refused or go out without their row, as
AUDIOLM_PROVENANCE says.
"""

from __future__ import annotations

import logging
from pathlib import Path

from sqlalchemy import URL

from model.errors import ConfigError
from model.watermark import Embedder, Mark, WatermarkKey, find
from service.certificates import SigningChain, make_chain, parse_chain, read_chain
from service.credentials import Credentials
from service.data_folder import DataFolder, default_data_folder
from service.ledger import Ledger, LedgerUnavailable
from service.provenance import Provenance, Samples
from service.settings import Settings

logger = logging.getLogger(__name__)

_SIGNING = ("AUDIOLM_SIGNING_CERT", "AUDIOLM_SIGNING_KEY", "AUDIOLM_SIGNING_ANCHORS")


class KeyedWatermark:
    """The first of `keys` marks; those after it have marked before and are looked for too."""

    def __init__(self, keys: list[WatermarkKey]) -> None:
        self.keys = keys

    @property
    def secret(self) -> bytes:
        return self.keys[0].secret

    def begin(self, payload: int) -> Embedder:
        return Embedder(self.keys[0], payload)

    def find(self, samples: Samples) -> Mark:
        return find(samples, self.keys)


def build_provenance(settings: Settings) -> Provenance:
    """Raises ConfigError."""
    folder = DataFolder(settings.data_dir or default_data_folder())
    return Provenance(
        KeyedWatermark(_watermark_keys(settings, folder)) if settings.watermark else None,
        _ledger(settings, folder) if settings.ledger else None,
        Credentials(_signing_chain(settings, folder)) if settings.content_credentials else None,
        policy=settings.provenance,
    )


def _watermark_keys(settings: Settings, folder: DataFolder) -> list[WatermarkKey]:
    texts = [key.get_secret_value() for key in settings.watermark_key]
    if not texts:
        texts = [folder.keep("watermark.key", lambda: WatermarkKey.random().to_hex().encode()).decode()]
    return [WatermarkKey.from_hex(text) for text in texts]


def _ledger(settings: Settings, folder: DataFolder) -> Ledger:
    if settings.ledger_url is None:
        url = URL.create("sqlite", database=str(folder.path.absolute() / "ledger.sqlite")).render_as_string()
    else:
        url = settings.ledger_url.get_secret_value()
    ledger = Ledger(url, settings.ledger_retention_days)
    try:
        if settings.ledger_url is None:
            folder.ensure()
        ledger.prepare()
    except (LedgerUnavailable, OSError) as error:
        logger.error("the ledger does not answer yet: %s", error)
    return ledger


def _signing_chain(settings: Settings, folder: DataFolder) -> SigningChain:
    given = (settings.signing_cert, settings.signing_key, settings.signing_anchors)
    if not any(given):
        return parse_chain(folder.keep("signing.pem", make_chain))
    certificates, key, anchors = (_given(path, name) for path, name in zip(given, _SIGNING, strict=True))
    return read_chain(certificates, key, anchors, settings.signing_former_certs)


def _given(path: Path | None, name: str) -> Path:
    if path is None:
        raise ConfigError(f"{' and '.join(_SIGNING)} are set together; {name} is not")
    return path
