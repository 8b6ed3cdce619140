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

from process_cosmos_gateway.private_files import is_there, write_private

KEY, CERTIFICATE, PREVIOUS, NEXT = "ca.key", "ca.pem", "ca.old.pem", "ca.next.pem"
CA_DAYS = 20 * 365
TRUST_DAYS = 365 + 90
"""Days an old CA stays trusted: until the last certificate it signed has expired and can no longer be renewed."""

CLOCK_SKEW = timedelta(days=1)
"""Certificates become valid this long before their issue: the clock of a board without a clock chip may be late."""

_NAME = "Process Cosmos enrolment"
_CRITICAL = (x509.BasicConstraints, x509.KeyUsage)


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

    @property
    def trusted(self) -> Sequence[x509.Certificate]:
        """The certificates of all these CAs, the current one first."""
        return (self.certificate, *(each.certificate for each in self.previous))


def load_ca(folder: Path, now: datetime) -> LoadedCA:
    """Read the CA of ``folder``; complete an interrupted rotation first."""
    if is_there(folder / NEXT):
        _install(folder)
    key = _load_key(folder / KEY)
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
        old = load_ca(folder, now)
        key = ec.generate_private_key(ec.SECP256R1())
        successor = sign_ca(key, now, old.key, days)
        previous = [PreviousCA(certificate=old.certificate, successor=successor), *old.previous]
        kept = b"".join(pem(each.certificate) + pem(each.successor) for each in previous)
        write_private(folder / NEXT, key_pem(key) + pem(sign_ca(key, now, key)) + kept)
        _install(folder)


def _install(folder: Path) -> None:
    """Install the files of the prepared CA; repeating this is harmless."""
    certificate, *previous = x509.load_pem_x509_certificates((folder / NEXT).read_bytes())
    write_private(folder / PREVIOUS, b"".join(map(pem, previous)))
    write_private(folder / KEY, key_pem(_load_key(folder / NEXT)))
    write_private(folder / CERTIFICATE, pem(certificate))
    # Deleted last: after a crash before this line the next start installs the same CA again.
    (folder / NEXT).unlink()


def _load_key(file: Path) -> ec.EllipticCurvePrivateKey:
    key = serialization.load_pem_private_key(file.read_bytes(), None)
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise TypeError(f"{file} does not contain the key of a CA, on an elliptic curve")
    return key


@contextmanager
def lock_ca(folder: Path) -> Iterator[None]:
    """Lock the CA of ``folder`` against other processes inside the block, as its files must match each other."""
    lock = os.open(folder / "ca.lock", os.O_WRONLY | os.O_CREAT, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
    finally:
        os.close(lock)


def sign_ca(
    key: ec.EllipticCurvePrivateKey, now: datetime, signer: ec.EllipticCurvePrivateKey, days: int = CA_DAYS
) -> x509.Certificate:
    """Return the certificate of a CA with ``key``; ``signer``: the same key, or that of the CA it succeeds."""
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
    # A successor has the same name, so it is self-issued and does not count for the path length (RFC 5280, 4.2.1.9).
    constraints = x509.BasicConstraints(ca=True, path_length=0)
    return sign(_NAME, key.public_key(), now, timedelta(days=days), signer, constraints, usage)


def sign(
    common_name: str,
    key: ec.EllipticCurvePublicKey,
    now: datetime,
    lasts: timedelta,
    signer: ec.EllipticCurvePrivateKey,
    *extensions: x509.ExtensionType,
) -> x509.Certificate:
    """Return a certificate of the CA with the key ``signer``; its validity begins a day before ``now``."""
    builder = (
        x509.CertificateBuilder()
        .subject_name(_name(common_name))
        .issuer_name(_name(_NAME))
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - CLOCK_SKEW)
        .not_valid_after(now + lasts)
    )
    issuer = x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key())
    for extension in (x509.SubjectKeyIdentifier.from_public_key(key), issuer, *extensions):
        builder = builder.add_extension(extension, critical=isinstance(extension, _CRITICAL))
    return builder.sign(signer, hashes.SHA256())


def _name(common_name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


def key_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    """Return a private key as unencrypted PKCS #8 in PEM."""
    form = serialization.PrivateFormat.PKCS8
    return key.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption())


def pem(certificate: x509.Certificate) -> bytes:
    """Return a certificate in PEM."""
    return certificate.public_bytes(serialization.Encoding.PEM)
