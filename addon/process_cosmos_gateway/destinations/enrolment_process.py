"""The child process of enrolment and renewal: checks whom it speaks to, makes a key, asks for a certificate.

Reads one JSON object from standard input, writes one to standard output: credentials, or (exit 1) a problem.
"""

import hashlib
import http.client
import resource
import socket
import ssl
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from http import HTTPStatus
from typing import NamedTuple
from urllib.parse import urlsplit

import orjson
from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from process_cosmos_gateway.contract.cloud import IDENTITY_CODES, Enrolled, EnrolmentRequest, RenewalRequest
from process_cosmos_gateway.contract.codec import MAX_FRAME, decode_json, parse
from process_cosmos_gateway.contract.errors import Code, ContractError
from process_cosmos_gateway.contract.identifiers import Ulid, is_ulid
from process_cosmos_gateway.errors import RequestRefusedError

SECONDS = 15.0
LONGEST_REASON = 300
MOST_MEMORY = 256 << 20
"""Bytes: http.client reads a chunk that says it has -1 bytes without an end."""

HTTPS = 443


class Far(NamedTuple):
    """Where the endpoint is."""

    host: str
    port: int


class Order(NamedTuple):
    """What the parent asks for with a one-time code: the code taken apart, and whose certificate it is to be."""

    secret: str
    sha256: str
    site: Ulid


class Renewal(NamedTuple):
    """What the parent asks for with a certificate: it, its key, and the CA to trust (PEM)."""

    certificate: str
    key: str
    ca: str


def main() -> None:
    """Do one enrolment, or one renewal."""
    resource.setrlimit(resource.RLIMIT_DATA, (MOST_MEMORY, resource.getrlimit(resource.RLIMIT_DATA)[1]))
    document = orjson.loads(sys.stdin.buffer.read())
    url = urlsplit(document.pop("url"))
    far = Far(url.hostname or "", url.port or HTTPS)
    try:
        reply = enrol(far, Order(**document)) if "secret" in document else renew(far, Renewal(**document))
    except RequestRefusedError as error:
        sys.stdout.buffer.write(orjson.dumps({"code": error.code, "message": str(error)}))
        sys.exit(1)
    sys.stdout.buffer.write(orjson.dumps(reply))


def enrol(far: Far, order: Order) -> dict[str, str | datetime]:
    """Return key, certificate, CA and dates; nothing of ours is sent before the CA's key has been checked."""
    with _told_in_words(far):
        trusted = _trust(far, order)
        key = ec.generate_private_key(ec.SECP256R1())
        body = EnrolmentRequest(secret=order.secret, site=order.site, csr=_request(key, order.site))
        reply = _ask(far, _pem(trusted), "/v1/enroll", body)
    return _credentials(reply, key, order.site, trusted)


def renew(far: Far, renewal: Renewal) -> dict[str, str | datetime]:
    """Return a new key, its certificate, the CA to trust from now on, and dates; the old key vouches for it."""
    old_key = serialization.load_pem_private_key(renewal.key.encode(), None)
    if not isinstance(old_key, ec.EllipticCurvePrivateKey):
        raise TypeError("the key to renew with must be on an elliptic curve")
    old = x509.load_pem_x509_certificate(renewal.certificate.encode())
    site = _site_of(old)
    key = ec.generate_private_key(ec.SECP256R1())
    csr = _request(key, site)
    proof = old_key.sign(csr.encode(), ec.ECDSA(hashes.SHA256())).hex()
    with _told_in_words(far):
        body = RenewalRequest(certificate=renewal.certificate, csr=csr, proof=proof)
        reply = _ask(far, renewal.ca, "/v1/renew", body)
    # The CA may have been followed by another one: who it is was said over TLS that the old one vouches for.
    credentials = _credentials(reply, key, site, None)
    if credentials["ca"] != renewal.ca:
        _check_shown(far, str(credentials["ca"]))
    return credentials


def _check_shown(far: Far, ca: str) -> None:
    """Refuse a CA by which the endpoint cannot be reached: with it in the place of the old one, nothing could be."""
    try:
        context = ssl.create_default_context(cadata=ca)
        with (
            socket.create_connection(far, SECONDS) as plain,
            context.wrap_socket(plain, server_hostname=far.host),
        ):
            return
    except OSError as error:  # TLS errors are OSErrors too
        message = "The cloud endpoint gave a CA that its own certificate is not from. The old certificate is kept."
        raise RequestRefusedError(Code.ENROLMENT_REFUSED, message) from error


def _site_of(certificate: x509.Certificate) -> Ulid:
    """Return whose certificate it is; raise ``ValueError`` if it is no site's."""
    [name] = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    if not is_ulid(str(name.value)):
        raise ValueError("the certificate is not one of a site")
    return Ulid(str(name.value))


@contextmanager
def _told_in_words(far: Far) -> Iterator[None]:
    """Translate what can go wrong on the way."""
    host, port = far
    try:
        yield
    except ssl.SSLCertVerificationError as error:
        message = f"The certificate at {host}:{port} does not fit: {error.verify_message}."
        raise RequestRefusedError(Code.IDENTITY_MISMATCH, message) from error
    except ssl.SSLError as error:
        message = f"What answers at {host}:{port} is not the endpoint of this code: no TLS with it."
        raise RequestRefusedError(Code.IDENTITY_MISMATCH, message) from error
    except (http.client.HTTPException, ValueError, MemoryError) as error:
        message = f"What answers at {host}:{port} does not speak HTTP as it should."
        raise RequestRefusedError(Code.DESTINATION_AWAY, message) from error
    except OSError as error:
        message = f"The cloud endpoint at {host}:{port} cannot be reached."
        raise RequestRefusedError(Code.DESTINATION_AWAY, message) from error


def _trust(far: Far, order: Order) -> x509.Certificate:
    """Return the CA the far side shows, if its key is the one the code names."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    # Looked at, not trusted: the CA that is found here is what the real connection is checked with.
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    with (
        socket.create_connection(far, SECONDS) as plain,
        context.wrap_socket(plain, server_hostname=far.host) as secured,
    ):
        shown = [x509.load_der_x509_certificate(der) for der in secured.get_unverified_chain()]
    for certificate in shown:
        if _key_sha256(certificate) == order.sha256:
            return certificate
    message = f"What answers at {far.host}:{far.port} is not the endpoint this code was made by. Nothing was sent."
    raise RequestRefusedError(Code.IDENTITY_MISMATCH, message)


def _key_sha256(certificate: x509.Certificate) -> str:
    form = serialization.PublicFormat.SubjectPublicKeyInfo
    return hashlib.sha256(certificate.public_key().public_bytes(serialization.Encoding.DER, form)).hexdigest()


def _request(key: ec.EllipticCurvePrivateKey, site: Ulid) -> str:
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, site)])
    csr = x509.CertificateSigningRequestBuilder().subject_name(name).sign(key, hashes.SHA256())
    return _pem(csr)


def _pem(signed: x509.Certificate | x509.CertificateSigningRequest) -> str:
    return signed.public_bytes(serialization.Encoding.PEM).decode()


def _ask(far: Far, ca: str, path: str, body: EnrolmentRequest | RenewalRequest) -> bytes:
    """Post the request over TLS that trusts one CA alone; return the reply's body."""
    context = ssl.create_default_context(cadata=ca)
    connection = http.client.HTTPSConnection(*far, timeout=SECONDS, context=context)
    with closing(connection):
        connection.request("POST", path, orjson.dumps(body), {"Content-Type": "application/json"})
        response = connection.getresponse()
        reply = response.read(MAX_FRAME)
    if response.length:  # read() with a limit does not say that the reply broke off
        raise http.client.IncompleteRead(reply, response.length)
    if response.status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        message = f"The cloud endpoint replied {response.status}; try again later."
        raise RequestRefusedError(Code.DESTINATION_AWAY, message)
    if response.status != HTTPStatus.OK:
        raise _refusal(reply, response.status)
    return reply


def _refusal(reply: bytes, status: int) -> RequestRefusedError:
    """Return the endpoint's own words where it gave some (RFC 9457)."""
    try:
        document = decode_json(reply)
    except ContractError:
        document = None
    problem = document if isinstance(document, dict) else {}
    code = next((code for code in IDENTITY_CODES if code == problem.get("code")), Code.ENROLMENT_REFUSED)
    detail = problem.get("detail")
    if isinstance(detail, str) and detail.isprintable():
        return RequestRefusedError(code, detail[:LONGEST_REASON])
    return RequestRefusedError(code, f"The cloud endpoint refused with status {status}.")


def _credentials(
    body: bytes, key: ec.EllipticCurvePrivateKey, site: Ulid, trusted: x509.Certificate | None
) -> dict[str, str | datetime]:
    """Check all of a reply before it takes the place of what works: for which site and key, by whom, for when."""
    try:
        enrolled = parse(Enrolled, decode_json(body))
        trusted = trusted or x509.load_pem_x509_certificate(enrolled.ca.encode())
        certificate = x509.load_pem_x509_certificate(enrolled.certificate.encode())
        certificate.verify_directly_issued_by(trusted)
        is_of_site = _site_of(certificate) == site
        is_of_key = certificate.public_key() == key.public_key()
    except (ContractError, ValueError, TypeError, InvalidSignature, UnsupportedAlgorithm) as error:
        message = "The cloud endpoint replied something that is no certificate."
        raise RequestRefusedError(Code.ENROLMENT_REFUSED, message) from error
    if not is_of_key:
        raise RequestRefusedError(Code.ENROLMENT_REFUSED, "The cloud endpoint's certificate is for another key.")
    if not is_of_site:
        raise RequestRefusedError(Code.ENROLMENT_REFUSED, "The cloud endpoint's certificate is for another site.")
    if not certificate.not_valid_before_utc <= datetime.now(UTC) < certificate.not_valid_after_utc:
        raise RequestRefusedError(Code.ENROLMENT_REFUSED, "The cloud endpoint's certificate is not valid now.")
    lifetime = certificate.not_valid_after_utc - certificate.not_valid_before_utc
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return {
        "key": private.decode(),
        "certificate": _pem(certificate),
        "ca": _pem(trusted),
        "renew_at": certificate.not_valid_before_utc + lifetime / 2,
        "expires_at": certificate.not_valid_after_utc,
    }


if __name__ == "__main__":
    main()
