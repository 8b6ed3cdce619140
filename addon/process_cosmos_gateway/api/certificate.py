"""Creation of the gateway's key and certificate, in a child process because loading cryptography costs memory."""

from datetime import UTC, datetime
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from process_cosmos_gateway.private_files import write_private

from .identity import identity_file

# Clients pin the fingerprint, so the dates need only be valid, even on boards whose clock starts in 1970.
_FROM = datetime(1970, 1, 1, tzinfo=UTC)
_UNTIL = datetime(9999, 12, 31, tzinfo=UTC)


def make_identity(folder: Path) -> None:
    """Write a new P-256 key and its self-signed certificate to ``folder``, unless the file exists."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Process Cosmos gateway")])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(_FROM)
        .not_valid_after(_UNTIL)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    # ``run`` and ``pair`` may both create it: the first file stays, as its fingerprint may have been printed.
    write_private(identity_file(folder), pem + certificate.public_bytes(Encoding.PEM), replace=False)
