"""Decides which gateway may act as a site, by certificates, reply tokens and epochs."""

import re
import secrets
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import orjson

from process_cosmos_gateway.contract.errors import Code, ContractError
from process_cosmos_gateway.contract.identifiers import Ulid, is_ulid

from .authority import Issued, SiteCertificate
from .ca import CLOCK_SKEW
from .database import Connection
from .errors import CloudError

TOKENS_KEPT = 3
"""The newest, the one before (its reply may be lost), and one more: a batch may be sent while the last is settled."""

MOST_UNUSED = 8
"""Valid, unused certificates issued as renewals of the same one: each lost reply leaves one."""

_SENTENCES = {
    Code.CERTIFICATE_REVOKED: "This certificate was revoked.",
    Code.CERTIFICATE_SUPERSEDED: "This certificate was renewed, and the new one is in use.",
}

_TOKEN = re.compile(r"(\d{1,15})-[0-9a-f]{16}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """Why a caller's requests are refused: a stable code and a sentence."""

    code: Code
    message: str


class RefusedError(CloudError):
    """The caller's request is refused; roll the transaction back."""

    def __init__(self, refusal: Refusal) -> None:
        """Set the code and sentence of the refusal."""
        super().__init__(refusal.message)
        self.refusal = refusal


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """The sender of a batch: the token and epoch its gateway continues from (empty: none), and its address."""

    token: str
    epoch: str
    address: str


@dataclass(frozen=True, slots=True)
class _TokenChain:
    """The newest tokens of a site, each given for the one before, and the number of the newest ever given."""

    tokens: Sequence[str]
    number: int
    epoch: str | None


def record_enrolment(connection: Connection, site: Ulid, serial: str, now: float) -> None:
    """Enrol ``site`` with a new certificate; refuse earlier ones, with the code the site was refused with if any."""
    row = connection.execute("SELECT refused FROM site WHERE site = ?", (site,)).fetchone()
    connection.execute(
        "UPDATE certificate SET refused = ? WHERE site = ? AND refused IS NULL",
        ((row and row[0]) or Code.CERTIFICATE_REVOKED, site),
    )
    # After a conflict the gateway with the older epoch may be the one that is enrolled again.
    connection.execute("DELETE FROM epoch WHERE site = ?", (site,))
    connection.execute("INSERT OR REPLACE INTO site (site, enrolled_at) VALUES (?, ?)", (site, now))
    record_certificate(connection, site, serial, now)


def record_certificate(connection: Connection, site: Ulid, serial: str, now: float) -> None:
    """Store a certificate as the site's newest, even if the clock went back."""
    connection.execute(
        "INSERT INTO certificate (serial, site, issued_at) SELECT ?1, ?2, max(?3, coalesce(max(issued_at) + 0.001, 0))"
        " FROM certificate WHERE site = ?2",
        (serial, site, now),
    )


def record_renewal(connection: Connection, old: SiteCertificate, request: str, new: Issued, now: float) -> str:
    """Store ``new``, issued as the renewal of ``old``; return the certificate (PEM) for the reply.

    Until it is used, the same request gets the same certificate, because the reply may have been lost. The renewals of
    the newest ``MOST_UNUSED`` different requests stay valid.
    """
    for (known,) in connection.execute("SELECT certificate FROM renewal WHERE request = ?", (request,)):
        return str(known)
    record_certificate(connection, old.site, new.serial, now)
    connection.execute("INSERT INTO renewal VALUES (?, ?, ?, ?)", (request, old.serial, new.serial, new.certificate))
    for (spare,) in connection.execute(
        "SELECT new FROM renewal JOIN certificate ON serial = new WHERE old = ?"
        " ORDER BY issued_at DESC LIMIT -1 OFFSET ?",
        (old.serial, MOST_UNUSED),
    ).fetchall():
        connection.execute("DELETE FROM renewal WHERE new = ?", (spare,))
        connection.execute(
            "UPDATE certificate SET refused = ? WHERE serial = ? AND refused IS NULL",
            (Code.CERTIFICATE_SUPERSEDED, spare),
        )
    return new.certificate


def record_use(connection: Connection, certificate: SiteCertificate) -> None:
    """Record the use of an admitted certificate; refuse older ones, and other renewals of the same one."""
    site, serial = certificate.site, certificate.serial
    # A database restored from a backup may not know it. Then its own date orders it, rounded up, so that it never
    # counts as older than one issued in the same second.
    issued_at = certificate.not_before + CLOCK_SKEW.total_seconds() + 1
    connection.execute(
        "INSERT OR IGNORE INTO certificate (serial, site, issued_at) VALUES (?, ?, ?)", (serial, site, issued_at)
    )
    connection.execute(
        "UPDATE certificate SET refused = ?3 WHERE site = ?1 AND refused IS NULL AND serial <> ?2"
        " AND (issued_at < (SELECT issued_at FROM certificate WHERE serial = ?2)"
        "  OR serial IN (SELECT new FROM renewal WHERE old = (SELECT old FROM renewal WHERE new = ?2)))",
        (site, serial, Code.CERTIFICATE_SUPERSEDED),
    )
    if connection.changes():
        connection.execute(
            "DELETE FROM renewal WHERE new = ? OR new IN"
            " (SELECT serial FROM certificate WHERE site = ? AND refused IS NOT NULL)",
            (serial, site),
        )


def revoke(connection: Connection, what: str) -> int:
    """Revoke one certificate (by serial number) or all of a site (by id); return their number, 0 if unknown."""
    if is_ulid(what):
        connection.execute("UPDATE site SET refused = ? WHERE site = ?", (Code.CERTIFICATE_REVOKED, what))
    connection.execute("UPDATE certificate SET refused = ? WHERE ? IN (site, serial)", (Code.CERTIFICATE_REVOKED, what))
    return connection.changes()


def admit(connection: Connection, certificate: SiteCertificate) -> None:
    """Raise ``RefusedError`` if the certificate or its site is refused."""
    [(of_certificate, of_site, reason)] = connection.execute(
        "SELECT certificate.refused, site.refused, reason FROM (SELECT 1)"
        " LEFT JOIN certificate ON serial = ? LEFT JOIN site ON site.site = ?",
        (certificate.serial, certificate.site),
    )
    if of_certificate is None and of_site is None:
        return
    code = Code(of_certificate or of_site)
    said = _SENTENCES.get(code, reason)
    raise RefusedError(
        Refusal(code=code, message=said or "The site was enrolled again; this certificate is no longer valid.")
    )


def describe_sites(connection: Connection) -> Iterator[str]:
    """Yield lines for people: the state of each site, and its certificates."""
    for site, address, heard_at, refused, reason in connection.execute(
        "SELECT site, address, heard_at, refused, reason FROM site ORDER BY site"
    ):
        yield f"{site}  {refused or 'ok'}  last heard {_time(heard_at)} from {address or 'nowhere'}"
        if reason:
            yield f"  {reason}"
        for serial, issued_at, taken_back in connection.execute(
            "SELECT serial, issued_at, refused FROM certificate WHERE site = ? ORDER BY issued_at", (site,)
        ):
            yield f"  {serial}  issued {_time(issued_at)}  {taken_back or 'ok'}"


def accept_token(connection: Connection, site: Ulid, caller: Caller, now: float) -> str | Refusal:
    """Check the caller's token and epoch; return the token for its next batch, or the refusal.

    A refusal applies to both gateways of the site and is stored, so the transaction must be committed.
    """
    connection.execute("INSERT OR IGNORE INTO site (site, enrolled_at) VALUES (?, ?)", (site, now))
    [(tokens, number, epoch, address, heard_at)] = connection.execute(
        "SELECT tokens, number, epoch, address, heard_at FROM site WHERE site = ?", (site,)
    )
    chain = _TokenChain(orjson.loads(tokens), number, epoch)
    presented = _number(caller.token)
    seen = caller.epoch != epoch and _had_epoch(connection, site, caller.epoch)
    history = None if seen else _history(chain, caller, presented)
    if history is None:
        both = f"one at {address} (last heard {_time(heard_at)}), one at {caller.address} ({_time(now)})"
        reason = f"Two gateways act as site {site}: {both}. Both are refused until one is enrolled again."
        sql = "UPDATE site SET refused = ?, reason = ? WHERE site = ?"
        connection.execute(sql, (Code.IDENTITY_CONFLICT, reason, site))
        return Refusal(code=Code.IDENTITY_CONFLICT, message=reason)
    # An endpoint restored from a backup knows lower numbers than the site presents.
    number = max(number, presented) + 1
    token = f"{number}-{secrets.token_hex(8)}"
    if caller.epoch != epoch:
        connection.execute("INSERT INTO epoch (site, epoch) VALUES (?, ?)", (site, caller.epoch))
    connection.execute(
        "UPDATE site SET tokens = ?, number = ?, epoch = ?, address = ?, heard_at = ? WHERE site = ?",
        (orjson.dumps([*history, token][-TOKENS_KEPT:]).decode(), number, caller.epoch, caller.address, now, site),
    )
    return token


def _history(chain: _TokenChain, caller: Caller, presented: int) -> Sequence[str] | None:
    """Return the tokens up to the presented one; None: another gateway has continued from an older token.

    This gateway never received the tokens given after the presented one, so they are dropped; if another gateway
    received one of them, it is unknown when presented.
    """
    if caller.token in chain.tokens:
        return chain.tokens[: chain.tokens.index(caller.token) + 1]
    # A new epoch: the site was restored from a backup. A higher number: this endpoint was.
    if caller.epoch != chain.epoch or presented > chain.number:
        return [caller.token]
    return None


def _had_epoch(connection: Connection, site: Ulid, epoch: str) -> bool:
    return connection.execute("SELECT 1 FROM epoch WHERE site = ? AND epoch = ?", (site, epoch)).get is not None


def _number(token: str) -> int:
    if not token:
        return 0
    match = _TOKEN.fullmatch(token)
    if match is None:
        raise ContractError("$", "the token must be one that this endpoint has given")
    return int(match[1])


def _time(seconds: float | None) -> str:
    return "never" if seconds is None else datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds")
