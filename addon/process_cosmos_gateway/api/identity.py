"""The gateway's own certificate: its file, fingerprint and TLS contexts."""

import asyncio
import ssl
import sys
from hashlib import sha256
from pathlib import Path

from process_cosmos_gateway.errors import StartError


def identity_file(folder: Path) -> Path:
    """Return the path of the file with key and certificate, one file so that neither can be lost alone."""
    return folder / "gateway.pem"


def fingerprint(folder: Path) -> str:
    """Return the SHA-256 of the certificate (DER), 64 hexadecimal digits; raise ``StartError`` if it is broken."""
    try:
        text = identity_file(folder).read_text("ascii")
        certificate = text[text.index("-----BEGIN CERTIFICATE-----") :]
        return sha256(ssl.PEM_cert_to_DER_cert(certificate)).hexdigest()
    except (OSError, ValueError) as error:
        raise _broken(folder, error) from error


async def ensure_identity(folder: Path) -> None:
    """Create key and certificate at the first start; raise ``StartError``.

    This runs in a child process: loading cryptography takes 9 MB, which only the end of a process frees.
    """
    if identity_file(folder).exists():
        return
    child = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "process_cosmos_gateway", "certificate", "--data", str(folder)
    )
    if await child.wait():
        raise StartError(f"The gateway's certificate could not be created in {folder}.")


def server_context(folder: Path) -> ssl.SSLContext:
    """Return the TLS context of the server (TLS 1.2 or newer); raise ``StartError`` if the certificate is unusable."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    try:
        context.load_cert_chain(identity_file(folder))
    except OSError as error:
        raise _broken(folder, error) from error
    return context


def client_context(folder: Path) -> ssl.SSLContext:
    """Return a TLS context that trusts only this gateway's certificate; raise ``StartError`` if it is unusable."""
    try:
        context = ssl.create_default_context(cafile=str(identity_file(folder)))
    except OSError as error:
        raise _broken(folder, error) from error
    # The pinned certificate is the identity; it contains no host name.
    context.check_hostname = False
    return context


def _broken(folder: Path, error: Exception) -> StartError:
    if isinstance(error, OSError) and not isinstance(error, FileNotFoundError | ssl.SSLError):
        return StartError(
            f"The gateway's certificate in {identity_file(folder)} cannot be read ({error.strerror}). Check the disk "
            "and the file's permissions, then start the gateway again."
        )
    return StartError(
        f"The gateway's certificate in {identity_file(folder)} is missing or broken. Remove the file and start the "
        "gateway, which creates a new one. Then pair again."
    )
