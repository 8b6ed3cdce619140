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
from process_cosmos_gateway.contract.errors import Code, ContractError
from process_cosmos_gateway.contract.identifiers import Ulid, is_ulid
from process_cosmos_gateway.private_files import is_there, write_private

from .ca import CERTIFICATE, KEY, key_pem, load_ca, lock_ca, pem, sign, sign_ca
from .problems import RefusedError

CERTIFICATE_DAYS = 365
GRACE_DAYS = 90
"""Days after its expiry in which a certificate can still be renewed, as a site may have been offline."""

_UNREADABLE = (ValueError, InvalidSignature, UnsupportedAlgorithm, x509.InvalidVersion)
"""Exceptions of the package cryptography for invalid requests and certificates."""


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
                write_private(folder / CERTIFICATE, pem(sign_ca(key, now_fn(), key)))
            self._ca = load_ca(folder, now_fn())

    @property
    def pem(self) -> str:
        """The certificate of the current CA, in PEM."""
        return pem(self._ca.certificate).decode()

    @property
    def sha256(self) -> str:
        """The SHA-256 of the CA's public key (SubjectPublicKeyInfo, DER), as one-time codes carry it."""
        public = self._ca.certificate.public_key()
        form = serialization.PublicFormat.SubjectPublicKeyInfo
        return hashlib.sha256(public.public_bytes(serialization.Encoding.DER, form)).hexdigest()

    def issue(self, csr_pem: str, site: Ulid) -> Issued:
        """Issue a site's certificate, valid for a year. Only the key of the request is used, never its names.

        Raises ``ContractError`` if the request is invalid, or does not prove possession of its key.
        """
        try:
            csr = x509.load_pem_x509_csr(csr_pem.encode())
            key = csr.public_key()
            # Check the type of the key first: a signature of another type may take long to verify.
            if not isinstance(key, ec.EllipticCurvePublicKey) or not csr.is_signature_valid:
                raise ContractError("$.csr", "must be signed with its own key, on an elliptic curve")
        except _UNREADABLE as error:
            raise ContractError("$.csr", "must be a certificate request") from error
        name = x509.UniformResourceIdentifier(f"urn:process-cosmos:site:{site}")
        certificate = self._sign(key, site, [name], ExtendedKeyUsageOID.CLIENT_AUTH)
        return Issued(certificate=pem(certificate).decode(), serial=f"{certificate.serial_number:x}")

    def verify_renewal(self, request: RenewalRequest) -> SiteCertificate:
        """Return the certificate to be renewed, after verifying that its key signed the request.

        Raises ``ContractError``, and ``RefusedError`` if it expired more than 90 days ago.
        """
        try:
            old = x509.load_pem_x509_certificate(request.certificate.encode())
            self._check_issuer(old)
            key = old.public_key()
            if not isinstance(key, ec.EllipticCurvePublicKey):
                raise ContractError("$.certificate", "must be that of a site")
            key.verify(bytes.fromhex(request.proof), request.csr.encode(), ec.ECDSA(hashes.SHA256()))
            usage = old.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
        except (*_UNREADABLE, x509.ExtensionNotFound) as error:
            raise ContractError("$.proof", "must be made with the key of a certificate issued here") from error
        [name] = old.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
        site = str(name.value)
        if ExtendedKeyUsageOID.CLIENT_AUTH not in usage or not is_ulid(site):
            raise ContractError("$.certificate", "must be that of a site")
        if self._now_fn() > old.not_valid_after_utc + timedelta(days=GRACE_DAYS):
            message = f"The certificate expired more than {GRACE_DAYS} days ago. Enrol with a new code."
            raise RefusedError(Code.CERTIFICATE_EXPIRED, message)
        not_before = old.not_valid_before_utc.timestamp()
        return SiteCertificate(site=Ulid(site), serial=f"{old.serial_number:x}", not_before=not_before)

    def _check_issuer(self, certificate: x509.Certificate) -> None:
        """Raise ``InvalidSignature`` if neither the current CA nor a trusted previous one has signed it."""
        for authority in self._ca.trusted:
            with suppress(InvalidSignature):
                return certificate.verify_directly_issued_by(authority)
        raise InvalidSignature

    def server_context(self, names: Sequence[str]) -> ssl.SSLContext:
        """Return the TLS context for ``names`` (host names, IP addresses); client certificates are optional.

        The server's certificate is issued at each start and sent with the CA's, so that a site can compare the CA with
        its one-time code. The chain also contains the successor certificates, for sites that trust a previous CA.
        """
        key = ec.generate_private_key(ec.SECP256R1())
        alternatives = [_general_name(name) for name in names]
        # A common name has at most 64 characters (RFC 5280); clients compare the alternative names only.
        certificate = self._sign(key.public_key(), names[0][:64], alternatives, ExtendedKeyUsageOID.SERVER_AUTH)
        links = b"".join(pem(each.successor) for each in self._ca.previous)
        file = self._folder / "server.pem"
        write_private(file, key_pem(key) + pem(certificate) + links + self.pem.encode())
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.load_cert_chain(file)
        context.load_verify_locations(cadata=b"".join(map(pem, self._ca.trusted)).decode())
        # Enrolment and renewal have no certificate to present; ``Endpoint`` requires one for everything else.
        context.verify_mode = ssl.CERT_OPTIONAL
        return context

    def _sign(
        self, key: ec.EllipticCurvePublicKey, name: str, names: Sequence[x509.GeneralName], usage: x509.ObjectIdentifier
    ) -> x509.Certificate:
        constraints = x509.BasicConstraints(ca=False, path_length=None)
        # The usage prevents a site's certificate from passing as the endpoint's, and the reverse.
        extensions = (constraints, x509.ExtendedKeyUsage([usage]), x509.SubjectAlternativeName(names))
        return sign(name, key, self._now_fn(), timedelta(days=CERTIFICATE_DAYS), self._ca.key, *extensions)


def _general_name(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)
