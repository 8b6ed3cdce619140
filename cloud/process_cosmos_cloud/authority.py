"""The certificate authority: issues the certificates of sites and of the endpoint."""

import hashlib
import ipaddress
import ssl
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from process_cosmos_gateway.contract.cloud import RenewalRequest
from process_cosmos_gateway.contract.identifiers import Ulid, is_ulid

from .ca import (
    CERTIFICATE,
    KEY,
    builder_of,
    is_there,
    key_pem,
    load_ca,
    lock_ca,
    pem,
    self_sign,
    sign,
    write_private,
)
from .errors import CloudError

CERTIFICATE_DAYS = 365
GRACE_DAYS = 90
"""Days after its expiry in which a certificate can still be renewed, as a site may have been offline."""

_UNREADABLE = (ValueError, InvalidSignature, UnsupportedAlgorithm, x509.InvalidVersion)
"""Exceptions of the package cryptography for invalid requests and certificates."""


class CertificateRequestError(CloudError):
    """The certificate request is invalid, or does not prove possession of its key."""


class TooLateError(CertificateRequestError):
    """The certificate expired more than 90 days ago and cannot be renewed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Issued:
    """A site's certificate (PEM) and its serial number (hexadecimal, lower case)."""

    certificate: str
    serial: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SiteCertificate:
    """A certificate of this CA, as a site presents it.

    ``not_before``: seconds since 1970, one day before its issue (``ca.CLOCK_SKEW``).
    """

    site: Ulid
    serial: str
    not_before: float


class Authority:
    """Issues certificates for sites and the endpoint; its key is stored in the data folder with mode 0600."""

    def __init__(self, folder: Path, now_fn: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        """Load the current and previous CAs of ``folder``, or create one; complete an interrupted rotation."""
        self._folder = folder
        self._now_fn = now_fn
        with lock_ca(folder):
            if not is_there(folder / CERTIFICATE):
                key = ec.generate_private_key(ec.SECP256R1())
                # The key first: without the certificate, as after a crash in between, both are created again.
                write_private(folder / KEY, key_pem(key))
                write_private(folder / CERTIFICATE, pem(self_sign(key, now_fn())))
            loaded = load_ca(folder, now_fn())
        self._key, self._certificate, self._previous = loaded.key, loaded.certificate, loaded.previous

    @property
    def pem(self) -> str:
        """The certificate of the current CA, in PEM."""
        return pem(self._certificate).decode()

    @property
    def sha256(self) -> str:
        """The SHA-256 of the CA's public key (SubjectPublicKeyInfo, DER), as one-time codes carry it."""
        public = self._certificate.public_key()
        form = serialization.PublicFormat.SubjectPublicKeyInfo
        return hashlib.sha256(public.public_bytes(serialization.Encoding.DER, form)).hexdigest()

    def issue(self, csr_pem: str, site: Ulid) -> Issued:
        """Issue a site's certificate, valid for a year. Only the key of the request is used, never its names.

        Raises ``CertificateRequestError``.
        """
        try:
            csr = x509.load_pem_x509_csr(csr_pem.encode())
            key = csr.public_key()
            # Check the type of the key first: a signature of another type may take long to verify.
            if not isinstance(key, ec.EllipticCurvePublicKey) or not csr.is_signature_valid:
                raise CertificateRequestError(
                    "the certificate request must be signed with its own key, on an elliptic curve"
                )
        except _UNREADABLE as error:
            raise CertificateRequestError("the certificate request cannot be parsed") from error
        name = x509.SubjectAlternativeName([x509.UniformResourceIdentifier(f"urn:process-cosmos:site:{site}")])
        certificate = self._sign(key, site, name, ExtendedKeyUsageOID.CLIENT_AUTH)
        return Issued(certificate=pem(certificate).decode(), serial=f"{certificate.serial_number:x}")

    def verify_renewal(self, request: RenewalRequest) -> SiteCertificate:
        """Return the certificate to be renewed, after verifying that its key signed the request.

        Raises ``CertificateRequestError``, and ``TooLateError`` if it expired more than 90 days ago.
        """
        try:
            old = x509.load_pem_x509_certificate(request.certificate.encode())
            self._check_issuer(old)
            key = old.public_key()
            if not isinstance(key, ec.EllipticCurvePublicKey):
                raise CertificateRequestError("the certificate is not that of a site")
            key.verify(bytes.fromhex(request.proof), request.csr.encode(), ec.ECDSA(hashes.SHA256()))
            usage = old.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
        except (*_UNREADABLE, x509.ExtensionNotFound) as error:
            raise CertificateRequestError(
                "the certificate was not issued here, or its key did not sign the request"
            ) from error
        [name] = old.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
        site = str(name.value)
        if ExtendedKeyUsageOID.CLIENT_AUTH not in usage or not is_ulid(site):
            raise CertificateRequestError("the certificate is not that of a site")
        if self._now_fn() > old.not_valid_after_utc + timedelta(days=GRACE_DAYS):
            raise TooLateError(f"The certificate expired more than {GRACE_DAYS} days ago. Enrol with a new code.")
        not_before = old.not_valid_before_utc.timestamp()
        return SiteCertificate(site=Ulid(site), serial=f"{old.serial_number:x}", not_before=not_before)

    def _check_issuer(self, certificate: x509.Certificate) -> None:
        """Raise ``InvalidSignature`` if neither the current CA nor a trusted previous one has signed it."""
        for authority in (self._certificate, *(each.certificate for each in self._previous)):
            with suppress(InvalidSignature):
                return certificate.verify_directly_issued_by(authority)
        raise InvalidSignature

    def server_context(self, names: Sequence[str]) -> ssl.SSLContext:
        """Return the TLS context for ``names`` (host names, IP addresses); client certificates are optional.

        The server's certificate is issued at each start and sent with the CA's, so that a site can compare the CA with
        its one-time code. The chain also contains the successor certificates, for sites that trust a previous CA.
        """
        key = ec.generate_private_key(ec.SECP256R1())
        names_extension = x509.SubjectAlternativeName([_general_name(name) for name in names])
        # A common name has at most 64 characters (RFC 5280); clients compare the alternative names only.
        certificate = self._sign(key.public_key(), names[0][:64], names_extension, ExtendedKeyUsageOID.SERVER_AUTH)
        links = b"".join(pem(each.successor) for each in self._previous)
        file = self._folder / "server.pem"
        write_private(file, key_pem(key) + pem(certificate) + links + self.pem.encode())
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.load_cert_chain(file)
        trusted = [self._certificate, *(each.certificate for each in self._previous)]
        context.load_verify_locations(cadata=b"".join(map(pem, trusted)).decode())
        # Enrolment and renewal have no certificate to present; ``Endpoint`` requires one for everything else.
        context.verify_mode = ssl.CERT_OPTIONAL
        return context

    def _sign(
        self,
        key: ec.EllipticCurvePublicKey,
        common_name: str,
        names: x509.SubjectAlternativeName,
        usage: x509.ObjectIdentifier,
    ) -> x509.Certificate:
        now = self._now_fn()
        builder = builder_of(common_name, key, now, timedelta(days=CERTIFICATE_DAYS))
        builder = builder.issuer_name(self._certificate.subject)
        builder = builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        # The usage prevents a site's certificate from passing as the endpoint's, and the reverse.
        builder = builder.add_extension(x509.ExtendedKeyUsage([usage]), critical=False).add_extension(names, False)
        return sign(builder, self._key)


def _general_name(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)
