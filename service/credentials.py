"""Content credentials (C2PA): a signed statement inside the file of what made it, and the reading of such statements.

An answer says that a trained model made some of its seconds, which generation it was, and that the uploaded clip is
its parent, whose own statement is kept. WAV, FLAC (in a leading ID3 tag) and MP3 can carry one; Ogg and bare samples
cannot, nor can a stream, since the signature is over the whole file. Reading goes nowhere on the network. A file is
ours if its statement holds, its signer leads to a configured anchor, and that signer is this deployment's own; any
other signature, however valid, is somebody else's. Blocks; belongs on the pool of audio threads.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from importlib.metadata import version
from io import BytesIO
from typing import Any, Literal

import c2pa
import numpy as np
from cryptography import x509
from cryptography.x509.oid import NameOID

from model.errors import ConfigError
from service.audio import media_type_of
from service.certificates import SigningChain
from service.encoding import MEDIA_TYPES, Format, encode

SIGNED_FORMATS: tuple[Format, ...] = ("wav", "flac", "mp3")
GENERATION = "org.audiolm.generation"  # label of our own assertion
TRAINED_MODEL = "http://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia"
UNREAD = "application/octet-stream"  # a parent whose own statement is not looked for
MOST_KEPT_BYTES = 1 << 20  # of a parent's statement, which every answer carries on
_VERSION = version("audiolm-service")
_PARENT = "prompt"  # the ingredient's name within one manifest

State = Literal["none", "ours", "other", "untrusted", "invalid", "unsupported"]


@dataclass(frozen=True)
class Claim:
    """What is stated of an answer. `start`: second of the file where generated sound begins, for `seconds`."""

    generation_id: str
    model: str
    model_version: str
    start: float
    seconds: float


@dataclass(frozen=True)
class CredentialState:
    """What a file says of itself. `segments`: seconds that our own statement says were generated."""

    state: State
    detail: str
    signer: str | None = None
    generation_id: str | None = None
    segments: tuple[tuple[float, float], ...] = ()


class Credentials:
    """Signs with `chain` and trusts its anchors only. Raises ConfigError if nothing can be signed with it."""

    def __init__(self, chain: SigningChain) -> None:
        self._signers = {_identity(x) for x in x509.load_pem_x509_certificates(chain.signers.encode())}
        try:
            info = c2pa.C2paSignerInfo(
                chain.algorithm, chain.certificates.encode(), chain.key.encode(), ta_url=None
            )
            self._context = c2pa.Context.from_dict(_library_settings(chain), c2pa.Signer.from_info(info))
            self._prove()
        except c2pa.C2paError as error:
            raise ConfigError(
                f"answers cannot be signed with the configured certificates: {error}"
            ) from error

    def describe_parent(self, clip: bytes) -> bytes:
        """What an answer will keep of the clip it continues: the statement inside it if it has one, not its sound."""
        for media_type in (media_type_of(clip[:12]) or UNREAD, UNREAD):
            with suppress(c2pa.C2paError), c2pa.Builder({}, context=self._context) as builder:
                ingredient = {"title": "uploaded clip", "relationship": "parentOf", "label": _PARENT}
                builder.add_ingredient(ingredient, media_type, BytesIO(clip))
                kept = BytesIO()
                builder.write_ingredient_archive(_PARENT, kept)
                if media_type == UNREAD or kept.tell() <= MOST_KEPT_BYTES:
                    return kept.getvalue()
        raise AssertionError("any bytes can be an ingredient")

    def sign(self, sound: bytes, format: Format, claim: Claim, parent: bytes) -> bytes:
        """The file `sound` with its statement; `parent` is from `describe_parent`. Raises C2paError."""
        assert format in SIGNED_FORMATS
        signed = BytesIO()
        with c2pa.Builder(_manifest(claim, format), context=self._context) as builder:
            builder.add_ingredient_from_archive(BytesIO(parent))
            builder.sign(MEDIA_TYPES[format], BytesIO(sound), signed)
        return signed.getvalue()

    def read(self, data: bytes) -> CredentialState:
        """What any bytes say of themselves; never raises for what they hold."""
        try:
            reader = c2pa.Reader.try_create(None, BytesIO(data), None, context=self._context)
        except c2pa.C2paError as error:
            return _unreadable(data, error)
        if reader is None:
            return CredentialState("none", "The file carries no content credentials.")
        with reader:
            manifest = reader.get_active_manifest() or {}
            return self._judge(
                manifest, str(reader.get_validation_state()), reader.get_validation_results() or {}
            )

    def _judge(self, manifest: dict[str, Any], validity: str, results: dict[str, Any]) -> CredentialState:
        signature = manifest.get("signature_info") or {}
        signer = signature.get("common_name") or signature.get("issuer")
        if validity == "Valid":
            detail = "The credentials are intact, but their signer leads to no anchor that is trusted here."
            return CredentialState("untrusted", detail, signer)
        if validity != "Trusted":
            failures = (results.get("activeManifest") or {}).get("failure") or []
            codes = ", ".join(sorted({failure["code"] for failure in failures})) or "unknown reason"
            return CredentialState("invalid", f"The credentials do not hold: {codes}.", signer)
        serial, names = (
            signature.get("cert_serial_number"),
            (signature.get("issuer"), signature.get("common_name")),
        )
        if (serial, *names) not in self._signers:
            return CredentialState("other", "The credentials hold, and somebody else signed them.", signer)
        data = next((x["data"] for x in manifest["assertions"] if x["label"] == GENERATION), None)
        if data is None:
            return CredentialState("ours", "This deployment signed the file.", signer)
        span = (data["start"], data["start"] + data["seconds"])
        detail = "This deployment signed the file, and it has not been changed since."
        return CredentialState("ours", detail, signer, data["id"], (span,))

    def _prove(self) -> None:
        """Sign half a second of silence and know it again: at start, rather than at the first answer."""
        silence = encode(np.zeros(8_000, np.float32), "wav")
        claim = Claim("0" * 32, "none", "0", 0.0, 0.5)
        found = self.read(self.sign(silence, "wav", claim, self.describe_parent(silence)))
        if found.state != "ours":
            raise ConfigError(f"what the configured certificates sign is not known again: {found.detail}")


def _identity(certificate: x509.Certificate) -> tuple[str, str | None, str | None]:
    """Serial number, organization, common name: what the library tells of a signer. Below an honest anchor no two
    signers share a serial number."""
    return (
        str(certificate.serial_number),
        _attribute(certificate.subject, NameOID.ORGANIZATION_NAME),
        _attribute(certificate.subject, NameOID.COMMON_NAME),
    )


def _attribute(name: x509.Name, oid: x509.ObjectIdentifier) -> str | None:
    found = name.get_attributes_for_oid(oid)
    return str(found[0].value) if found else None


def _library_settings(chain: SigningChain) -> dict[str, Any]:
    return {
        "trust": {"trust_anchors": chain.anchors},
        "verify": {"remote_manifest_fetch": False, "ocsp_fetch": False, "verify_after_sign": False},
        "core": {"allowed_network_hosts": []},
        "builder": {
            "thumbnail": {"enabled": False},
            "created_assertion_labels": ["c2pa.actions", "c2pa.ingredient", GENERATION],
        },
    }


def _manifest(claim: Claim, format: Format) -> dict[str, Any]:
    end = claim.start + claim.seconds
    span = {"type": "temporal", "time": {"type": "npt", "start": f"{claim.start:.4f}", "end": f"{end:.4f}"}}
    made = {
        "action": "c2pa.edited",
        "digitalSourceType": TRAINED_MODEL,
        "softwareAgent": {"name": claim.model, "version": claim.model_version},
        "description": f"A trained model made the sound from {claim.start:.2f} s to {end:.2f} s.",
        "changes": [{"region": [span]}],
    }
    opened = {"action": "c2pa.opened", "parameters": {"ingredientIds": [_PARENT]}}
    generation = {"id": claim.generation_id, "start": claim.start, "seconds": claim.seconds}
    return {
        "claim_generator_info": [{"name": "audiolm-service", "version": _VERSION}],
        "title": f"continuation.{format}",
        "assertions": [
            {"label": "c2pa.actions.v2", "data": {"actions": [opened, made]}},
            {"label": GENERATION, "data": generation},
        ],
    }


def _unreadable(data: bytes, error: c2pa.C2paError) -> CredentialState:
    if isinstance(error, c2pa.C2paError.NotSupported):
        return CredentialState("unsupported", "Content credentials are not read in this kind of file.")
    if b"jumb" in data and b"c2pa" in data:
        return CredentialState("invalid", "The file carries content credentials that cannot be read.")
    return CredentialState("none", "No content credentials were found in what could be read of the file.")
