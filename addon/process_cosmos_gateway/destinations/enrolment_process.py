"""The child process of enrolment: checks whom it speaks to, makes the key, asks for a certificate.

Reads one JSON object from standard input, writes one to standard output: credentials, or (exit 1) a problem.
"""

import hashlib
import http.client
import socket
import ssl
import sys
from contextlib import closing
from datetime import datetime
from http import HTTPStatus
from typing import NamedTuple
from urllib.parse import urlsplit

import orjson
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from process_cosmos_gateway.contract.cloud import Enrolled, EnrolmentRequest
from process_cosmos_gateway.contract.codec import MAX_FRAME, decode_json, parse
from process_cosmos_gateway.contract.errors import Code, ContractError
from process_cosmos_gateway.contract.identifiers import Ulid
from process_cosmos_gateway.errors import RequestRefusedError

SECONDS = 15.0
LONGEST_REASON = 300
HTTPS = 443


class Order(NamedTuple):
    """What the parent asks for: the one-time code taken apart, and whose certificate it is to be."""

    host: str
    port: int
    secret: str
    sha256: str
    site: Ulid


def main() -> None:
    """Do one enrolment."""
    document = orjson.loads(sys.stdin.buffer.read())
    url = urlsplit(document["url"])
    order = Order(url.hostname or "", url.port or HTTPS, document["secret"], document["sha256"], document["site"])
    try:
        reply: dict[str, str | datetime] = enrol(order)
    except RequestRefusedError as error:
        sys.stdout.buffer.write(orjson.dumps({"code": error.code, "message": str(error)}))
        sys.exit(1)
    sys.stdout.buffer.write(orjson.dumps(reply))


def enrol(order: Order) -> dict[str, str | datetime]:
    """Return key, certificate, CA and end of validity; nothing of ours is sent before the CA's key has been checked."""
    try:
        trusted = _trust(order)
        key = ec.generate_private_key(ec.SECP256R1())
        body = _ask(order, trusted, _request(key, order.site))
    except ssl.SSLCertVerificationError as error:
        message = f"The certificate at {order.host}:{order.port} does not fit: {error.verify_message}."
        raise RequestRefusedError(Code.IDENTITY_MISMATCH, message) from error
    except ssl.SSLError as error:
        message = f"What answers at {order.host}:{order.port} is not the endpoint of this code: no TLS with it."
        raise RequestRefusedError(Code.IDENTITY_MISMATCH, message) from error
    except (OSError, http.client.HTTPException) as error:
        message = f"The cloud endpoint at {order.host}:{order.port} cannot be reached."
        raise RequestRefusedError(Code.DESTINATION_AWAY, message) from error
    return _credentials(body, key, trusted)


def _trust(order: Order) -> x509.Certificate:
    """Return the CA the far side shows, if its key is the one the code names."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    # Looked at, not trusted: the CA that is found here is what the real connection is checked with.
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    with (
        socket.create_connection((order.host, order.port), SECONDS) as plain,
        context.wrap_socket(plain, server_hostname=order.host) as secured,
    ):
        shown = [x509.load_der_x509_certificate(der) for der in secured.get_unverified_chain()]
    for certificate in shown:
        if _key_sha256(certificate) == order.sha256:
            return certificate
    message = f"What answers at {order.host}:{order.port} is not the endpoint this code was made by. Nothing was sent."
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


def _ask(order: Order, trusted: x509.Certificate, csr: str) -> bytes:
    """Post the request over TLS that trusts the checked CA alone; return the reply's body."""
    context = ssl.create_default_context(cadata=_pem(trusted))
    connection = http.client.HTTPSConnection(order.host, order.port, timeout=SECONDS, context=context)
    body = orjson.dumps(EnrolmentRequest(secret=order.secret, site=order.site, csr=csr))
    with closing(connection):
        connection.request("POST", "/v1/enroll", body, {"Content-Type": "application/json"})
        response = connection.getresponse()
        reply = response.read(MAX_FRAME)
    if response.length:  # read() with a limit does not say that the reply broke off
        raise http.client.IncompleteRead(reply, response.length)
    if response.status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        message = f"The cloud endpoint replied {response.status}; try again later."
        raise RequestRefusedError(Code.DESTINATION_AWAY, message)
    if response.status != HTTPStatus.OK:
        raise RequestRefusedError(Code.ENROLMENT_REFUSED, _reason(reply, response.status))
    return reply


def _reason(reply: bytes, status: int) -> str:
    """Return the endpoint's own sentence where it gave one (RFC 9457)."""
    try:
        document = decode_json(reply)
    except ContractError:
        document = None
    detail = document.get("detail") if isinstance(document, dict) else None
    if isinstance(detail, str) and detail.isprintable():
        return detail[:LONGEST_REASON]
    return f"The cloud endpoint refused the code with status {status}."


def _credentials(body: bytes, key: ec.EllipticCurvePrivateKey, trusted: x509.Certificate) -> dict[str, str | datetime]:
    try:
        enrolled = parse(Enrolled, decode_json(body))
        certificate = x509.load_pem_x509_certificate(enrolled.certificate.encode())
        certificate.verify_directly_issued_by(trusted)
    except (ContractError, ValueError, TypeError) as error:
        message = "The cloud endpoint replied something that is no certificate."
        raise RequestRefusedError(Code.ENROLMENT_REFUSED, message) from error
    if certificate.public_key() != key.public_key():
        raise RequestRefusedError(Code.ENROLMENT_REFUSED, "The cloud endpoint's certificate is for another key.")
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return {
        "key": private.decode(),
        "certificate": _pem(certificate),
        "ca": _pem(trusted),
        "expires_at": certificate.not_valid_after_utc,
    }


if __name__ == "__main__":
    main()
