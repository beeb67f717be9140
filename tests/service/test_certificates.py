"""Signers that operators bring: those that work, and those that stop the start."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

from model.errors import ConfigError
from service.certificates import make_chain, parse_chain, read_chain
from service.credentials import Credentials
from tests.service.test_credentials import signed


def write(folder: Path, **texts: bytes | str) -> list[Path]:
    for name, text in texts.items():
        (folder / name).write_bytes(text if isinstance(text, bytes) else text.encode())
    return [folder / name for name in texts]


def test_the_operators_own_chain(tmp_path: Path) -> None:
    made = parse_chain(make_chain("Operator"))
    key = load_pem_private_key(made.key.encode(), None)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    old_style = key.private_bytes(Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption())
    paths = write(tmp_path, cert=made.certificates, key=old_style, anchors=made.anchors)
    chain = read_chain(*paths)
    assert chain.algorithm == "es256"
    assert Credentials(chain).read(signed(Credentials(chain))).state == "ours"


def test_an_ed25519_signer(tmp_path: Path) -> None:
    made = make_chain("Operator")
    root_key = ec.generate_private_key(ec.SECP256R1())
    key = ed25519.Ed25519PrivateKey.generate()
    signer, root = x509.load_pem_x509_certificates(made)
    builder = x509.CertificateBuilder().public_key(root_key.public_key()).subject_name(root.subject)
    builder = builder.issuer_name(root.subject).serial_number(5)
    builder = builder.not_valid_before(root.not_valid_before_utc).not_valid_after(root.not_valid_after_utc)
    for extension in root.extensions:
        if not isinstance(extension.value, x509.SubjectKeyIdentifier):
            builder = builder.add_extension(extension.value, extension.critical)
    anchor = builder.sign(root_key, hashes.SHA256())
    leaf = x509.CertificateBuilder().public_key(key.public_key()).subject_name(signer.subject)
    leaf = leaf.issuer_name(root.subject).serial_number(6)
    leaf = leaf.not_valid_before(signer.not_valid_before_utc).not_valid_after(signer.not_valid_after_utc)
    for extension in signer.extensions:
        if isinstance(extension.value, x509.BasicConstraints | x509.KeyUsage | x509.ExtendedKeyUsage):
            leaf = leaf.add_extension(extension.value, extension.critical)
    identifier = x509.AuthorityKeyIdentifier.from_issuer_public_key(root_key.public_key())
    leaf = leaf.add_extension(identifier, critical=False)
    pem = leaf.sign(root_key, hashes.SHA256()).public_bytes(Encoding.PEM)
    secret = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    chain = read_chain(*write(tmp_path, cert=pem, key=secret, anchors=anchor.public_bytes(Encoding.PEM)))
    assert chain.algorithm == "ed25519"
    assert Credentials(chain).read(signed(Credentials(chain), "mp3")).state == "ours"


def test_certificates_that_cannot_work_stop_the_start(tmp_path: Path) -> None:
    made, other = parse_chain(make_chain()), parse_chain(make_chain())
    cert, key, anchors, foreign_key, foreign_anchors, text = write(
        tmp_path,
        cert=made.certificates,
        key=made.key,
        anchors=made.anchors,
        foreign_key=other.key,
        foreign_anchors=other.anchors,
        text="dear diary",
    )
    with pytest.raises(ConfigError, match="does not belong"):
        read_chain(cert, foreign_key, anchors)
    with pytest.raises(ConfigError, match="not known again"):
        Credentials(read_chain(cert, key, foreign_anchors))
    with pytest.raises(ConfigError, match="not-there cannot be read"):
        read_chain(tmp_path / "not-there", key, anchors)
    for paths in ((text, key, anchors), (cert, text, anchors), (cert, key, text), (cert, key, anchors, text)):
        with pytest.raises(ConfigError, match="text holds no usable PEM"):
            read_chain(*paths)
    secret = load_pem_private_key(made.key.encode(), None)
    (locked,) = write(
        tmp_path,
        locked=secret.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"x")),
    )
    with pytest.raises(ConfigError, match="locked holds no usable PEM"):
        read_chain(cert, locked, anchors)


def test_an_expired_signer_stops_the_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("service.certificates.SIGNER_DAYS", -1)
    with pytest.raises(ValueError, match="not valid"):  # cryptography refuses what ends before it begins
        make_chain()
    monkeypatch.setattr("service.certificates.SIGNER_DAYS", 0.02)
    made = parse_chain(make_chain())
    paths = write(tmp_path, cert=made.certificates, key=made.key, anchors=made.anchors)

    class Later(datetime):
        @classmethod
        def now(cls, tz: object = None) -> datetime:  # type: ignore[override]
            return datetime.now(UTC) + timedelta(hours=1)

    monkeypatch.setattr("service.certificates.datetime", Later)
    with pytest.raises(ConfigError, match="expired"):
        read_chain(*paths)
