"""One-time codes: made by an admin, spent by one enrolment."""

import hashlib
import secrets

from process_cosmos_gateway.contract.identifiers import Ulid

from .database import Connection

VALID_SECONDS = 24 * 3600


class CodeRefusedError(Exception):
    """The code does not let this site in; the message says why, for a person."""


def make_code(connection: Connection, now: float, site: str | None = None) -> str:
    """Return a new secret, good for one enrolment within a day; with ``site``, of this site only."""
    secret = secrets.token_urlsafe(24)
    connection.execute(
        "INSERT INTO code (sha256, expires_at, site) VALUES (?, ?, ?)", (_hash(secret), now + VALID_SECONDS, site)
    )
    return secret


def check_code(connection: Connection, secret: str, site: Ulid, now: float) -> None:
    """Raise ``CodeRefusedError`` if the code does not let ``site`` in; changes nothing.

    Whoever holds a code may bring in a site of his own, never step into the place of one that is enrolled: for that
    the code must name the site.
    """
    row = connection.execute("SELECT expires_at, used_at, site FROM code WHERE sha256 = ?", (_hash(secret),)).fetchone()
    if row is None:
        raise CodeRefusedError("This one-time code is not known here.")
    expires_at, used_at, meant_for = row
    if used_at is not None:
        raise CodeRefusedError("This one-time code was used before. Ask for a new one.")
    if now > expires_at:
        raise CodeRefusedError("This one-time code has expired. Ask for a new one.")
    if meant_for not in (None, site):
        raise CodeRefusedError("This one-time code was made for another site.")
    enrolled = connection.execute("SELECT 1 FROM site WHERE site = ?", (site,)).get is not None
    if enrolled and meant_for is None:
        raise CodeRefusedError(f"Site {site} is enrolled already. Ask for a code that was made for it.")


def spend_code(connection: Connection, secret: str, site: Ulid, now: float) -> None:
    """Spend the code on ``site``, in the transaction that enrols it anew, or raise ``CodeRefusedError``."""
    check_code(connection, secret, site, now)
    connection.execute("UPDATE code SET used_at = ? WHERE sha256 = ?", (now, _hash(secret)))


def _hash(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()
