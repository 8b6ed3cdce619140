"""The CA's key and certificates in the data folder, and its rotation.

A new CA follows the old one as RFC 4210 (4.4) has it: the old key signs the new one once, and then goes. Sites that
trust the old CA meet the new one through that signature until their next renewal, which hands them the new CA.
"""

import fcntl
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import batched
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

KEY, CERTIFICATE, ELDERS, NEXT = "ca.key", "ca.pem", "ca.old.pem", "ca.next.pem"
CA_DAYS = 20 * 365
TRUST_DAYS = 365 + 90
"""How long an old CA is trusted: until the last certificate it signed is over, and can be renewed no more."""

CLOCK_SKEW = timedelta(days=1)
"""Certificates begin this much in the past: boards without a clock chip are late."""

_NAME = "Process Cosmos enrolment"


@dataclass(frozen=True, slots=True, kw_only=True)
class Elder:
    """A CA that was followed by another: ``successor`` is the next one's key, signed by it."""

    certificate: x509.Certificate
    successor: x509.Certificate


@dataclass(frozen=True, slots=True, kw_only=True)
class Authorities:
    """The CA, and those before it that are trusted still, newest first."""

    key: ec.EllipticCurvePrivateKey
    certificate: x509.Certificate
    elders: Sequence[Elder]


def load_authorities(folder: Path, now: datetime) -> Authorities:
    """Read the CA of ``folder``; end a rotation that was broken off."""
    if is_there(folder / NEXT):
        _install(folder)
    key = serialization.load_pem_private_key((folder / KEY).read_bytes(), None)
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise TypeError(f"{folder / KEY} is not the CA's key: it must be on an elliptic curve")
    certificate = x509.load_pem_x509_certificate((folder / CERTIFICATE).read_bytes())
    old = (folder / ELDERS).read_bytes() if is_there(folder / ELDERS) else b""
    pairs = batched(x509.load_pem_x509_certificates(old), 2, strict=True) if old else ()
    elders = [Elder(certificate=elder, successor=successor) for elder, successor in pairs]
    trusted = [elder for elder in elders if now < elder.successor.not_valid_after_utc]
    return Authorities(key=key, certificate=certificate, elders=trusted)


def rotate(folder: Path, now: datetime, days: int = TRUST_DAYS) -> None:
    """Make a new CA, have it signed by the old one, and forget the old one's key.

    The old CA is trusted for ``days`` more. A crash leaves the old CA or the new one.
    """
    with alone(folder):
        _rotate(folder, now, days)


def _rotate(folder: Path, now: datetime, days: int) -> None:
    old = load_authorities(folder, now)
    key = ec.generate_private_key(ec.SECP256R1())
    successor = signed(_authority(key, now, timedelta(days=days)), old.key)
    elders = [Elder(certificate=old.certificate, successor=successor), *old.elders]
    kept = b"".join(pem(elder.certificate) + pem(elder.successor) for elder in elders)
    write_private(folder / NEXT, key_pem(key) + pem(self_signed(key, now)) + kept)
    _install(folder)


def _install(folder: Path) -> None:
    """Put each part of the prepared CA in its place; doing it twice does no harm."""
    prepared = (folder / NEXT).read_bytes()
    key = serialization.load_pem_private_key(prepared, None)
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise TypeError(f"{folder / NEXT} does not hold a CA's key")
    certificate, *elders = x509.load_pem_x509_certificates(prepared)
    write_private(folder / ELDERS, b"".join(map(pem, elders)))
    write_private(folder / KEY, key_pem(key))
    write_private(folder / CERTIFICATE, pem(certificate))
    (folder / NEXT).unlink()


def is_there(file: Path) -> bool:
    """Return whether ``file`` exists; raise ``OSError`` where that cannot be told: then it is not made anew."""
    try:
        file.stat()
    except FileNotFoundError:
        return False
    return True


def write_private(file: Path, content: bytes) -> None:
    """Write ``content`` to a file that only its owner can read; a crash leaves the old one or the new one."""
    fresh = file.with_name(f"{file.name}.new")
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "wb") as stream:
        stream.write(content)
        stream.flush()
        os.fsync(descriptor)
    fresh.rename(file)
    folder = os.open(file.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


@contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Keep other processes away from the CA of ``folder`` meanwhile: its files must fit each other."""
    lock = os.open(folder / "ca.lock", os.O_WRONLY | os.O_CREAT, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
    finally:
        os.close(lock)


def self_signed(key: ec.EllipticCurvePrivateKey, now: datetime) -> x509.Certificate:
    """Return a CA's own certificate, good for 20 years."""
    return signed(_authority(key, now, timedelta(days=CA_DAYS)), key)


def _authority(key: ec.EllipticCurvePrivateKey, now: datetime, lasts: timedelta) -> x509.CertificateBuilder:
    builder = builder_of(_NAME, key.public_key(), now, lasts).issuer_name(_name(_NAME))
    # A successor is signed under the same name, so it does not count for the length of the path (RFC 5280, 4.2.1.9).
    builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
    usage = x509.KeyUsage(
        digital_signature=False,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=True,
        crl_sign=True,
        encipher_only=False,
        decipher_only=False,
    )
    return builder.add_extension(usage, critical=True)


def builder_of(
    common_name: str, key: ec.EllipticCurvePublicKey, now: datetime, lasts: timedelta
) -> x509.CertificateBuilder:
    """Begin a certificate that is good from now on."""
    return (
        x509.CertificateBuilder()
        .subject_name(_name(common_name))
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - CLOCK_SKEW)
        .not_valid_after(now + lasts)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
    )


def signed(builder: x509.CertificateBuilder, ca: ec.EllipticCurvePrivateKey) -> x509.Certificate:
    """Sign a certificate that says who it is for and who signs it."""
    issuer = x509.AuthorityKeyIdentifier.from_issuer_public_key(ca.public_key())
    return builder.add_extension(issuer, critical=False).sign(ca, hashes.SHA256())


def _name(common_name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


def key_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    """Return a private key as files hold it."""
    form = serialization.PrivateFormat.PKCS8
    return key.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption())


def pem(certificate: x509.Certificate) -> bytes:
    """Return a certificate as files hold it."""
    return certificate.public_bytes(serialization.Encoding.PEM)
