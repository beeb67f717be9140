"""The certificate chain that answers are signed with: the operator's own, or one made at first start.

The chain made here is for development: a root that nobody else knows and a signer below it. It proves to this
deployment that a file is its own, and to nobody else anything; for the rest of the world there are
AUDIOLM_SIGNING_CERT, _KEY and _ANCHORS. What C2PA asks of a signer beyond its key (specification 2.2, section 14.5) is
checked by signing, not here.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TypeVar

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from model.errors import ConfigError

DEVELOPMENT = "AudioLM as a service, development"
ROOT_DAYS, SIGNER_DAYS = 7300, 3650  # long, because a file is no longer valid once its signer has expired
_CURVES = {"secp256r1": "es256", "secp384r1": "es384", "secp521r1": "es512"}

T = TypeVar("T")


@dataclass(frozen=True)
class SigningChain:
    """PEM texts. `certificates`: the signer's, then those up to the root; `anchors`: the roots that are trusted;
    `former`: signers of the past whose files still count as ours."""

    certificates: str
    key: str  # PKCS #8
    algorithm: str  # as C2PA names it
    anchors: str
    former: str = ""

    @property
    def signers(self) -> str:
        """The certificates whose signatures are ours."""
        return _pem(x509.load_pem_x509_certificates(self.certificates.encode())[0]) + self.former


def read_chain(certificates: Path, key: Path, anchors: Path, former: Path | None = None) -> SigningChain:
    """The operator's chain from PEM files. Raises ConfigError that names the file at fault."""
    signer = _parsed(certificates, x509.load_pem_x509_certificates)[0]
    private = _parsed(key, lambda data: load_pem_private_key(data, password=None))
    _parsed(anchors, x509.load_pem_x509_certificates)
    if former is not None:
        _parsed(former, x509.load_pem_x509_certificates)
    if isinstance(private, ec.EllipticCurvePrivateKey) and private.curve.name in _CURVES:
        algorithm = _CURVES[private.curve.name]
    elif isinstance(private, ed25519.Ed25519PrivateKey):
        algorithm = "ed25519"
    elif isinstance(private, rsa.RSAPrivateKey):
        algorithm = "ps256"
    else:
        raise ConfigError(f"{key}: C2PA does not sign with this kind of key")
    if private.public_key() != signer.public_key():
        raise ConfigError(f"{key} does not belong to the first certificate in {certificates}")
    if signer.not_valid_after_utc < datetime.now(UTC):
        raise ConfigError(
            f"{certificates}: the signer's certificate expired {signer.not_valid_after_utc:%Y-%m-%d}"
        )
    return SigningChain(
        certificates=certificates.read_text(),
        key=_pem(private),
        algorithm=algorithm,
        anchors=anchors.read_text(),
        former="" if former is None else former.read_text(),
    )


def make_chain(name: str = DEVELOPMENT) -> bytes:
    """A new chain for development in one PEM file: the signer's key and certificate, then the root's certificate."""
    root_key, key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    root_name = _name(name, f"{name}: root")
    root = (
        _certificate(root_name, root_name, root_key, ROOT_DAYS)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(signs_certificates=True), critical=True)
        .sign(root_key, hashes.SHA256())
    )
    signer = (
        _certificate(_name(name, f"{name}: signer"), root_name, key, SIGNER_DAYS)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(signs_certificates=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.EMAIL_PROTECTION]), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(root_key.public_key()), critical=False
        )
        .sign(root_key, hashes.SHA256())
    )
    return (_pem(key) + _pem(signer) + _pem(root)).encode()


def parse_chain(data: bytes) -> SigningChain:
    """What `make_chain` made. Raises ConfigError for anything else."""
    try:
        signer, root = x509.load_pem_x509_certificates(data)
        key = load_pem_private_key(data, password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise ConfigError(f"the kept signing chain cannot be read: {error}") from error
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    return SigningChain(_pem(signer) + _pem(root), _pem(key), "es256", anchors=_pem(root))


def _parsed(path: Path, parse: Callable[[bytes], T]) -> T:
    try:
        return parse(path.read_bytes())
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror or error}") from error
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise ConfigError(f"{path} holds no usable PEM: {error}") from error


def _certificate(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePrivateKey, days: int
) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))  # clocks differ
        .not_valid_after(now + timedelta(days=days))
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )


def _name(organization: str, common: str) -> x509.Name:
    return x509.Name(
        [
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, organization),
            x509.NameAttribute(NameOID.COMMON_NAME, common),
        ]
    )


def _usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        encipher_only=False,
        decipher_only=False,
    )


def _pem(
    thing: x509.Certificate | ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey | rsa.RSAPrivateKey,
) -> str:
    if isinstance(thing, x509.Certificate):
        return thing.public_bytes(Encoding.PEM).decode()
    return thing.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
