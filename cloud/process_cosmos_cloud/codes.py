"""One-time enrolment codes: created by an administrator, valid for one enrolment."""

import hashlib
import secrets

from process_cosmos_gateway.contract.identifiers import Ulid

from .database import Connection
from .errors import CloudError

VALID_SECONDS = 24 * 3600


class CodeRefusedError(CloudError):
    """The code is not valid for this site; the message says why, for people."""


def make_code(connection: Connection, now: float, site: str | None = None) -> str:
    """Create and return a new secret, valid for one enrolment within a day; ``site``: valid for this site only."""
    secret = secrets.token_urlsafe(24)
    connection.execute(
        "INSERT INTO code (sha256, expires_at, site) VALUES (?, ?, ?)", (_hash(secret), now + VALID_SECONDS, site)
    )
    return secret


def check_code(connection: Connection, secret: str, site: Ulid, now: float) -> None:
    """Raise ``CodeRefusedError`` if the code is not valid for ``site``; change nothing.

    A code without a site enrols any new site, but cannot replace an enrolled one: for that the code must name it.
    """
    row = connection.execute("SELECT expires_at, used_at, site FROM code WHERE sha256 = ?", (_hash(secret),)).fetchone()
    if row is None:
        raise CodeRefusedError(
            "This one-time code is not known to this endpoint. Check that it is complete, or ask for a new one."
        )
    expires_at, used_at, meant_for = row
    if used_at is not None:
        raise CodeRefusedError("This one-time code was used before. Ask for a new one.")
    if now > expires_at:
        raise CodeRefusedError("This one-time code has expired. Ask for a new one.")
    if meant_for not in (None, site):
        raise CodeRefusedError("This one-time code was made for another site.")
    enrolled = connection.execute("SELECT 1 FROM site WHERE site = ?", (site,)).get is not None
    if enrolled and meant_for is None:
        raise CodeRefusedError(f"Site {site} is enrolled already. Ask for a code made for this site.")


def spend_code(connection: Connection, secret: str, site: Ulid, now: float) -> None:
    """Mark the code as used, in the transaction that enrols ``site``; raise ``CodeRefusedError`` if it is not valid."""
    # Checked again: another enrolment may have used the code since the request was checked.
    check_code(connection, secret, site, now)
    connection.execute("UPDATE code SET used_at = ? WHERE sha256 = ?", (now, _hash(secret)))


def _hash(secret: str) -> str:
    # A plain hash is enough: nobody can guess a secret of 192 random bits.
    return hashlib.sha256(secret.encode()).hexdigest()
