"""One-time enrolment codes: created by an administrator, valid for one enrolment."""

import secrets

from process_cosmos_gateway.contract.errors import Code
from process_cosmos_gateway.contract.identifiers import Ulid
from process_cosmos_gateway.private_files import secret_hash

from .database import Connection
from .problems import RefusedError

VALID_SECONDS = 24 * 3600


def make_code(connection: Connection, now: float, site: str | None = None) -> str:
    """Create and return a new secret, valid for one enrolment within a day; ``site``: valid for this site only."""
    # 192 random bits, which nobody can guess: a plain hash is enough.
    secret = secrets.token_urlsafe(24)
    connection.execute(
        "INSERT INTO code (sha256, expires_at, site) VALUES (?, ?, ?)", (secret_hash(secret), now + VALID_SECONDS, site)
    )
    return secret


def check_code(connection: Connection, secret: str, site: Ulid, now: float) -> None:
    """Raise ``RefusedError`` if the code is not valid for ``site``; change nothing.

    A code without a site enrols any new site, but cannot replace an enrolled one: for that the code must name it.
    """
    refusal = _refusal(connection, secret, site, now)
    if refusal:
        raise RefusedError(Code.ENROLMENT_REFUSED, refusal)


def _refusal(connection: Connection, secret: str, site: Ulid, now: float) -> str | None:
    """Return why the code is not valid, as a sentence for people."""
    row = connection.execute(
        "SELECT expires_at, used_at, site FROM code WHERE sha256 = ?", (secret_hash(secret),)
    ).fetchone()
    if row is None:
        return "This one-time code is not known to this endpoint. Check that it is complete, or ask for a new one."
    expires_at, used_at, meant_for = row
    if used_at is not None:
        return "This one-time code was used before. Ask for a new one."
    if now > expires_at:
        return "This one-time code has expired. Ask for a new one."
    if meant_for is not None:
        return None if meant_for == site else "This one-time code was made for another site."
    if connection.execute("SELECT 1 FROM site WHERE site = ?", (site,)).get is not None:
        return f"Site {site} is enrolled already. Ask for a code made for this site."
    return None


def spend_code(connection: Connection, secret: str, site: Ulid, now: float) -> None:
    """Mark the code as used, in the transaction that enrols ``site``; raise ``RefusedError`` if it is not valid."""
    # Checked again: another enrolment may have used the code since the request was checked.
    check_code(connection, secret, site, now)
    connection.execute("UPDATE code SET used_at = ? WHERE sha256 = ?", (now, secret_hash(secret)))
