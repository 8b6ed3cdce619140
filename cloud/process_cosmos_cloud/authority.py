"""The enrolment authority: the CA made at the first start, and the certificates it signs."""

import hashlib
import ipaddress
import os
import ssl
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from process_cosmos_gateway.contract.identifiers import Ulid

CA_DAYS = 20 * 365
CERTIFICATE_DAYS = 365
CLOCK_SKEW = timedelta(days=1)
"""Certificates begin this much in the past: boards without a clock chip are late."""


class CertificateRequestError(Exception):
    """What came is no certificate request, or none that proves it holds its key."""


class Authority:
    """Signs certificates of sites and the endpoint's own; its key stays in the data folder, mode 0600."""

    def __init__(self, folder: Path) -> None:
        """Load the CA of ``folder``, or make one."""
        self._folder = folder
        key_file, certificate_file = folder / "ca.key", folder / "ca.pem"
        if not certificate_file.exists():
            fresh = ec.generate_private_key(ec.SECP256R1())
            write_private(key_file, _key_pem(fresh))
            write_private(certificate_file, _pem(_self_signed(fresh)))
        key = serialization.load_pem_private_key(key_file.read_bytes(), None)
        if not isinstance(key, ec.EllipticCurvePrivateKey):
            raise TypeError(f"{key_file} is not the CA's key: it must be on an elliptic curve")
        self._key = key
        self._certificate = x509.load_pem_x509_certificate(certificate_file.read_bytes())

    @property
    def pem(self) -> str:
        """The CA's certificate."""
        return _pem(self._certificate).decode()

    @property
    def sha256(self) -> str:
        """The SHA-256 of the CA's public key (SubjectPublicKeyInfo, DER), as one-time codes carry it."""
        public = self._certificate.public_key()
        form = serialization.PublicFormat.SubjectPublicKeyInfo
        return hashlib.sha256(public.public_bytes(serialization.Encoding.DER, form)).hexdigest()

    def issue(self, csr_pem: str, site: Ulid) -> str:
        """Return a site's certificate, good for a year. Of the request only the key counts, never the names."""
        try:
            csr = x509.load_pem_x509_csr(csr_pem.encode())
            key = csr.public_key()
            if not csr.is_signature_valid or not isinstance(key, ec.EllipticCurvePublicKey):
                raise CertificateRequestError("the request must be signed with its own key, on an elliptic curve")
        except (ValueError, InvalidSignature) as error:
            raise CertificateRequestError("the request cannot be read") from error
        name = x509.SubjectAlternativeName([x509.UniformResourceIdentifier(f"urn:process-cosmos:site:{site}")])
        return _pem(self._sign(key, site, name, ExtendedKeyUsageOID.CLIENT_AUTH)).decode()

    def server_context(self, names: Sequence[str]) -> ssl.SSLContext:
        """Return TLS for the endpoint under ``names`` (host names, IP addresses); certificates of clients optional.

        The server's certificate is made anew at each start and shown together with the CA's, so that enrolment can
        hold the CA against the one-time code.
        """
        key = ec.generate_private_key(ec.SECP256R1())
        names_extension = x509.SubjectAlternativeName([_general_name(name) for name in names])
        certificate = self._sign(key.public_key(), names[0][:64], names_extension, ExtendedKeyUsageOID.SERVER_AUTH)
        file = self._folder / "server.pem"
        write_private(file, _key_pem(key) + _pem(certificate) + self.pem.encode())
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.load_cert_chain(file)
        context.load_verify_locations(cadata=self.pem)
        context.verify_mode = ssl.CERT_OPTIONAL
        return context

    def _sign(
        self,
        key: ec.EllipticCurvePublicKey,
        common_name: str,
        names: x509.SubjectAlternativeName,
        usage: x509.ObjectIdentifier,
    ) -> x509.Certificate:
        builder = _builder(common_name, key, self._certificate.subject, CERTIFICATE_DAYS)
        builder = builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        # A site's certificate must not pass as the endpoint's, nor the other way round.
        builder = builder.add_extension(x509.ExtendedKeyUsage([usage]), critical=False).add_extension(names, False)
        return _signed(builder, self._key)


def write_private(file: Path, content: bytes) -> None:
    """Write ``content`` to a file that only its owner can read; a crash leaves the old one or the new one."""
    fresh = file.with_suffix(".new")
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "wb") as stream:
        stream.write(content)
        stream.flush()
        os.fsync(descriptor)
    fresh.rename(file)


def _self_signed(key: ec.EllipticCurvePrivateKey) -> x509.Certificate:
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Process Cosmos enrolment")])
    builder = _builder("Process Cosmos enrolment", key.public_key(), name, CA_DAYS)
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
    return _signed(builder.add_extension(usage, critical=True), key)


def _builder(common_name: str, key: ec.EllipticCurvePublicKey, issuer: x509.Name, days: int) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)]))
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - CLOCK_SKEW)
        .not_valid_after(now + timedelta(days=days))
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
    )


def _signed(builder: x509.CertificateBuilder, ca: ec.EllipticCurvePrivateKey) -> x509.Certificate:
    issuer = x509.AuthorityKeyIdentifier.from_issuer_public_key(ca.public_key())
    return builder.add_extension(issuer, critical=False).sign(ca, hashes.SHA256())


def _general_name(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _key_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    form = serialization.PrivateFormat.PKCS8
    return key.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption())


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)
