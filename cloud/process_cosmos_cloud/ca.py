"""Stores the key and certificates of the CA in the data folder, and rotates the CA.

Rotation follows RFC 4210 (4.4): the old key signs the new CA key once and is then deleted. Sites that trust the old CA
verify the new one through that signature until their next renewal, whose reply contains the new CA.
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

KEY, CERTIFICATE, PREVIOUS, NEXT = "ca.key", "ca.pem", "ca.old.pem", "ca.next.pem"
CA_DAYS = 20 * 365
TRUST_DAYS = 365 + 90
"""Days an old CA stays trusted: until the last certificate it signed has expired and can no longer be renewed."""

CLOCK_SKEW = timedelta(days=1)
"""Certificates become valid this long before their issue: the clock of a board without a clock chip may be late."""

_NAME = "Process Cosmos enrolment"


@dataclass(frozen=True, slots=True, kw_only=True)
class PreviousCA:
    """A CA that was rotated out; ``successor``: a certificate for the next CA's key, signed by this one."""

    certificate: x509.Certificate
    successor: x509.Certificate


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadedCA:
    """The current CA, and the previous ones that are still trusted, newest first."""

    key: ec.EllipticCurvePrivateKey
    certificate: x509.Certificate
    previous: Sequence[PreviousCA]


def load_ca(folder: Path, now: datetime) -> LoadedCA:
    """Read the CA of ``folder``; complete an interrupted rotation first."""
    if is_there(folder / NEXT):
        _install(folder)
    key = serialization.load_pem_private_key((folder / KEY).read_bytes(), None)
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise TypeError(f"{folder / KEY} is not the CA's key: it must be an elliptic curve key")
    certificate = x509.load_pem_x509_certificate((folder / CERTIFICATE).read_bytes())
    old = (folder / PREVIOUS).read_bytes() if is_there(folder / PREVIOUS) else b""
    pairs = batched(x509.load_pem_x509_certificates(old), 2, strict=True) if old else ()
    previous = [PreviousCA(certificate=old_certificate, successor=successor) for old_certificate, successor in pairs]
    trusted = [each for each in previous if now < each.successor.not_valid_after_utc]
    return LoadedCA(key=key, certificate=certificate, previous=trusted)


def rotate(folder: Path, now: datetime, days: int = TRUST_DAYS) -> None:
    """Create a new CA, sign it with the old key, and delete the old key.

    The old CA stays trusted for ``days``. A crash leaves either the old CA or the new one.
    """
    with lock_ca(folder):
        _rotate(folder, now, days)


def _rotate(folder: Path, now: datetime, days: int) -> None:
    old = load_ca(folder, now)
    key = ec.generate_private_key(ec.SECP256R1())
    successor = sign(_ca_builder(key, now, timedelta(days=days)), old.key)
    previous = [PreviousCA(certificate=old.certificate, successor=successor), *old.previous]
    kept = b"".join(pem(each.certificate) + pem(each.successor) for each in previous)
    write_private(folder / NEXT, key_pem(key) + pem(self_sign(key, now)) + kept)
    _install(folder)


def _install(folder: Path) -> None:
    """Install the files of the prepared CA; repeating this is harmless."""
    prepared = (folder / NEXT).read_bytes()
    key = serialization.load_pem_private_key(prepared, None)
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise TypeError(f"{folder / NEXT} does not contain the key of a CA")
    certificate, *previous = x509.load_pem_x509_certificates(prepared)
    write_private(folder / PREVIOUS, b"".join(map(pem, previous)))
    write_private(folder / KEY, key_pem(key))
    write_private(folder / CERTIFICATE, pem(certificate))
    # Deleted last: after a crash before this line the next start installs the same CA again.
    (folder / NEXT).unlink()


def is_there(file: Path) -> bool:
    """Return whether ``file`` exists; raise ``OSError`` if that is unknown, so that it is not created again."""
    try:
        file.stat()
    except FileNotFoundError:
        return False
    return True


def write_private(file: Path, content: bytes) -> None:
    """Write ``content`` to a file that only its owner can read; a crash leaves the old or the new content."""
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
def lock_ca(folder: Path) -> Iterator[None]:
    """Lock the CA of ``folder`` against other processes inside the block, as its files must match each other."""
    lock = os.open(folder / "ca.lock", os.O_WRONLY | os.O_CREAT, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
    finally:
        os.close(lock)


def self_sign(key: ec.EllipticCurvePrivateKey, now: datetime) -> x509.Certificate:
    """Return the self-signed certificate of a CA, valid for 20 years."""
    return sign(_ca_builder(key, now, timedelta(days=CA_DAYS)), key)


def _ca_builder(key: ec.EllipticCurvePrivateKey, now: datetime, lasts: timedelta) -> x509.CertificateBuilder:
    builder = builder_of(_NAME, key.public_key(), now, lasts).issuer_name(_name(_NAME))
    # A successor has the same name, so it is self-issued and does not count for the path length (RFC 5280, 4.2.1.9).
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
    """Return a certificate builder with subject, key, serial number and validity, which begins a day before ``now``."""
    return (
        x509.CertificateBuilder()
        .subject_name(_name(common_name))
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - CLOCK_SKEW)
        .not_valid_after(now + lasts)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
    )


def sign(builder: x509.CertificateBuilder, ca: ec.EllipticCurvePrivateKey) -> x509.Certificate:
    """Add the authority key identifier and sign the certificate with the key ``ca``."""
    issuer = x509.AuthorityKeyIdentifier.from_issuer_public_key(ca.public_key())
    return builder.add_extension(issuer, critical=False).sign(ca, hashes.SHA256())


def _name(common_name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


def key_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    """Return a private key as unencrypted PKCS #8 in PEM."""
    form = serialization.PrivateFormat.PKCS8
    return key.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption())


def pem(certificate: x509.Certificate) -> bytes:
    """Return a certificate in PEM."""
    return certificate.public_bytes(serialization.Encoding.PEM)
