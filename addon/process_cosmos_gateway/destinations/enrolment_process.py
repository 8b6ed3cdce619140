"""The child process of enrolment and renewal: checks the endpoint's identity, creates a key, gets a certificate.

Reads one JSON object from standard input. Writes one to standard output: credentials, or a problem with exit code 1.
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
from process_cosmos_gateway.contract.codec import MAX_FRAME, decode_json, members, parse
from process_cosmos_gateway.contract.errors import Code, ContractError
from process_cosmos_gateway.contract.identifiers import Ulid, is_ulid
from process_cosmos_gateway.errors import RequestRefusedError

SECONDS = 15.0
LONGEST_REASON = 300
MOST_MEMORY = 256 << 20
"""Bytes: ``http.client`` reads a chunk with a declared length of -1 without end."""

HTTPS = 443


class Endpoint(NamedTuple):
    """The host and port of the cloud endpoint."""

    host: str
    port: int


def main() -> None:
    """Run one enrolment or one renewal."""
    resource.setrlimit(resource.RLIMIT_DATA, (MOST_MEMORY, resource.getrlimit(resource.RLIMIT_DATA)[1]))
    document = orjson.loads(sys.stdin.buffer.read())
    url = urlsplit(document.pop("url"))
    endpoint = Endpoint(url.hostname or "", url.port or HTTPS)
    try:
        reply = enrol(endpoint, **document) if "secret" in document else renew(endpoint, **document)
    except RequestRefusedError as error:
        sys.stdout.buffer.write(orjson.dumps({"code": error.code, "message": str(error)}))
        sys.exit(1)
    sys.stdout.buffer.write(orjson.dumps(reply))


def enrol(endpoint: Endpoint, *, secret: str, sha256: str, site: Ulid) -> dict[str, str | datetime]:
    """Return key, certificate, CA and dates; nothing is sent before the CA's key has been checked.

    ``secret``, ``sha256``: of the one-time code; ``site``: gets the certificate.
    """
    with _translate_errors(endpoint):
        trusted = _fetch_pinned_ca(endpoint, sha256)
        new_key = ec.generate_private_key(ec.SECP256R1())
        body = EnrolmentRequest(secret=secret, site=site, csr=_create_csr(new_key, site))
        reply = _post(endpoint, _pem(trusted), "/v1/enroll", body)
    return _check_credentials(reply, new_key, site, trusted)


def renew(endpoint: Endpoint, *, certificate: str, key: str, ca: str) -> dict[str, str | datetime]:
    """Return a new key, its certificate, the CA to trust from now on, and dates; the old key signs the request.

    ``certificate``, ``key``: to be replaced; ``ca``: to be trusted (all PEM).
    """
    old_key = serialization.load_pem_private_key(key.encode(), None)
    if not isinstance(old_key, ec.EllipticCurvePrivateKey):
        raise TypeError("the key to renew with must be on an elliptic curve")
    site = _site_in(x509.load_pem_x509_certificate(certificate.encode()))
    new_key = ec.generate_private_key(ec.SECP256R1())
    csr = _create_csr(new_key, site)
    proof = old_key.sign(csr.encode(), ec.ECDSA(hashes.SHA256())).hex()
    with _translate_errors(endpoint):
        reply = _post(endpoint, ca, "/v1/renew", RenewalRequest(certificate=certificate, csr=csr, proof=proof))
    # The CA may have been replaced: the reply that names the new one came over TLS verified by the old one.
    credentials = _check_credentials(reply, new_key, site, None)
    if credentials["ca"] != ca:
        _check_ca_matches(endpoint, str(credentials["ca"]))
    return credentials


def _check_ca_matches(endpoint: Endpoint, ca: str) -> None:
    """Refuse a CA that does not match the endpoint's own certificate: with it the endpoint would be out of reach."""
    try:
        context = ssl.create_default_context(cadata=ca)
        with (
            socket.create_connection(endpoint, SECONDS) as plain,
            context.wrap_socket(plain, server_hostname=endpoint.host),
        ):
            return
    except OSError as error:  # TLS errors are OSErrors too
        message = "The cloud endpoint sent a CA that did not issue its own certificate. The old certificate is kept."
        raise RequestRefusedError(Code.ENROLMENT_REFUSED, message) from error


def _site_in(certificate: x509.Certificate) -> Ulid:
    """Return the site named by a certificate; raise ``ValueError`` if it names none."""
    [name] = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    if not is_ulid(str(name.value)):
        raise ValueError("the certificate is not one of a site")
    return Ulid(str(name.value))


@contextmanager
def _translate_errors(endpoint: Endpoint) -> Iterator[None]:
    """Convert network and TLS errors into ``RequestRefusedError`` with a sentence for people."""
    host, port = endpoint
    try:
        yield
    except ssl.SSLCertVerificationError as error:
        message = f"The certificate of {host}:{port} is not valid: {error.verify_message}."
        raise RequestRefusedError(Code.IDENTITY_MISMATCH, message) from error
    except ssl.SSLError as error:
        message = f"{host}:{port} is not the endpoint that issued this code: no TLS connection is possible."
        raise RequestRefusedError(Code.IDENTITY_MISMATCH, message) from error
    # A reply without end runs into the memory limit, which ends this process only.
    except (http.client.HTTPException, ValueError, MemoryError) as error:
        message = f"{host}:{port} does not send valid HTTP replies."
        raise RequestRefusedError(Code.DESTINATION_AWAY, message) from error
    except OSError as error:
        message = f"The cloud endpoint at {host}:{port} cannot be reached."
        raise RequestRefusedError(Code.DESTINATION_AWAY, message) from error


def _fetch_pinned_ca(endpoint: Endpoint, sha256: str) -> x509.Certificate:
    """Return the CA presented by the endpoint whose key has the digest in the code."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    # Not verified yet: the CA found here verifies the actual connection.
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    with (
        socket.create_connection(endpoint, SECONDS) as plain,
        context.wrap_socket(plain, server_hostname=endpoint.host) as secured,
    ):
        shown = [x509.load_der_x509_certificate(der) for der in secured.get_unverified_chain()]
    # The code names the key of the CA, which the endpoint sends in its chain.
    for certificate in shown:
        if _key_sha256(certificate) == sha256:
            return certificate
    message = f"{endpoint.host}:{endpoint.port} is not the endpoint that issued this code. Nothing was sent."
    raise RequestRefusedError(Code.IDENTITY_MISMATCH, message)


def _key_sha256(certificate: x509.Certificate) -> str:
    form = serialization.PublicFormat.SubjectPublicKeyInfo
    return hashlib.sha256(certificate.public_key().public_bytes(serialization.Encoding.DER, form)).hexdigest()


def _create_csr(key: ec.EllipticCurvePrivateKey, site: Ulid) -> str:
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, site)])
    csr = x509.CertificateSigningRequestBuilder().subject_name(name).sign(key, hashes.SHA256())
    return _pem(csr)


def _pem(signed: x509.Certificate | x509.CertificateSigningRequest) -> str:
    return signed.public_bytes(serialization.Encoding.PEM).decode()


def _post(endpoint: Endpoint, ca: str, path: str, body: EnrolmentRequest | RenewalRequest) -> bytes:
    """Post the request over TLS that trusts only ``ca``; return the reply's body."""
    context = ssl.create_default_context(cadata=ca)
    connection = http.client.HTTPSConnection(*endpoint, timeout=SECONDS, context=context)
    with closing(connection):
        connection.request("POST", path, orjson.dumps(body), {"Content-Type": "application/json"})
        response = connection.getresponse()
        reply = response.read(MAX_FRAME)
    if response.length:  # read() with a limit does not report a truncated reply
        raise http.client.IncompleteRead(reply, response.length)
    if response.status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        message = f"The cloud endpoint replied {response.status}; try again later."
        raise RequestRefusedError(Code.DESTINATION_AWAY, message)
    if response.status != HTTPStatus.OK:
        raise _parse_refusal(reply, response.status)
    return reply


def _parse_refusal(reply: bytes, status: int) -> RequestRefusedError:
    """Return the endpoint's refusal, with the code and detail of its problem details (RFC 9457) if they are valid."""
    problem = members(reply)
    code = next((code for code in IDENTITY_CODES if code == problem.get("code")), Code.ENROLMENT_REFUSED)
    detail = problem.get("detail")
    if isinstance(detail, str) and detail.isprintable():
        return RequestRefusedError(code, detail[:LONGEST_REASON])
    return RequestRefusedError(code, f"The cloud endpoint refused with status {status}.")


def _check_credentials(
    body: bytes, key: ec.EllipticCurvePrivateKey, site: Ulid, trusted: x509.Certificate | None
) -> dict[str, str | datetime]:
    """Check that the certificate is for this site and key, issued by the CA and valid now; return the credentials."""
    try:
        enrolled = parse(Enrolled, decode_json(body))
        trusted = trusted or x509.load_pem_x509_certificate(enrolled.ca.encode())
        certificate = x509.load_pem_x509_certificate(enrolled.certificate.encode())
        certificate.verify_directly_issued_by(trusted)
        is_of_site = _site_in(certificate) == site
        is_of_key = certificate.public_key() == key.public_key()
    except (ContractError, ValueError, TypeError, InvalidSignature, UnsupportedAlgorithm) as error:
        message = "The cloud endpoint sent an invalid certificate."
        raise RequestRefusedError(Code.ENROLMENT_REFUSED, message) from error
    if not is_of_key:
        raise RequestRefusedError(Code.ENROLMENT_REFUSED, "The cloud endpoint's certificate is for another key.")
    if not is_of_site:
        raise RequestRefusedError(Code.ENROLMENT_REFUSED, "The cloud endpoint's certificate is for another site.")
    # A renewal must not replace a certificate that works by one that does not.
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
