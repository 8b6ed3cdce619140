"""Alarms of alerts for which a destination's share has no room: they wait beside the queue."""

import zlib

from process_cosmos_gateway.contract.destinations import Priority
from process_cosmos_gateway.store import Transaction

from .counters import backlog, count, counted, drop, wait
from .model import DropReason, Event, Limits
from .quotas import share
from .statements import STATEMENTS

_MOVED_AT_ONCE = 500


def park(  # noqa: PLR0917 - an event, its text and time, where to and how much
    transaction: Transaction, destination: str, event: Event, body: bytes, now: float, most: int
) -> None:
    """Let ``event`` wait for room; beyond ``most`` bytes only the newest of its alert stays."""
    asked = int(event.only is not None)
    if counted(transaction, "overflow_bytes") + len(body) > most:
        expire(transaction, now)
    if counted(transaction, "overflow_bytes") + len(body) > most:
        superseded = remove(transaction, "destination = ? AND key = ? AND asked = ?", destination, event.key, asked)
        drop(transaction, Priority.URGENT, DropReason.SUPERSEDED, superseded)
    expires = None if event.expires_at is None else event.expires_at.timestamp()
    transaction.run(
        "INSERT INTO outbox_overflow"
        " (destination, id, type, kind, subject, key, asked, accepted_at, expires_at, checksum, body)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        destination,
        event.id,
        event.type,
        event.kind,
        event.subject,
        event.key,
        asked,
        now,
        expires,
        zlib.crc32(body),
        body,
    )
    count(transaction, "overflow", 1)
    count(transaction, "overflow_bytes", len(body))


def has_expired(transaction: Transaction, now: float) -> bool:
    """Say whether something parked is not to be sent any more."""
    expired = "SELECT 1 FROM outbox_overflow WHERE expires_at <= ? LIMIT 1"
    return bool(counted(transaction, "overflow") and transaction.rows(expired, now))


def expire(transaction: Transaction, now: float) -> None:
    """Give up what is not to be sent any more, and count it."""
    drop(transaction, Priority.URGENT, DropReason.EXPIRED, remove(transaction, "expires_at <= ?", now))


def remove(transaction: Transaction, where: str, *values: str | float) -> int:
    """Remove parked alarms; return how many."""
    sizes = transaction.rows(
        f"DELETE FROM outbox_overflow WHERE {where} RETURNING length(body)",  # noqa: S608 - of our own callers
        *values,
    )
    count(transaction, "overflow", -len(sizes))
    count(transaction, "overflow_bytes", -sum(size for (size,) in sizes))
    return len(sizes)


def may_requeue(transaction: Transaction, destination: str, limits: Limits) -> bool:
    """Say whether there is room for the oldest alarm that is parked for ``destination``."""
    if not counted(transaction, "overflow"):
        return False
    oldest = "SELECT length(body) FROM outbox_overflow WHERE destination = ? ORDER BY number LIMIT 1"
    events, room = _room(transaction, destination, limits)
    return any(size <= room or not events for (size,) in transaction.rows(oldest, destination))


def _room(transaction: Transaction, destination: str, limits: Limits) -> tuple[int, int]:
    """Return the alarms queued for ``destination``, and the bytes left of its share."""
    [(number,)] = transaction.rows("SELECT count(*) FROM outbox_destination")
    events, size = backlog(transaction, destination, Priority.URGENT)
    return events, share(limits.quota[Priority.URGENT], number) - size


def unpark(transaction: Transaction, destination: str, limits: Limits) -> None:
    """Move parked alarms to the queue, in their order, as far as there is room."""
    if not counted(transaction, "overflow"):
        return
    events, room = _room(transaction, destination, limits)
    rows = transaction.rows(
        "SELECT length(body), number, id, type, kind, subject, key, accepted_at, expires_at, checksum, body"
        " FROM outbox_overflow WHERE destination = ? ORDER BY number LIMIT ?",
        destination,
        _MOVED_AT_ONCE,
    )
    insert = STATEMENTS[Priority.URGENT].insert + "(?, ?, ?, ?, ?, ?, NULL, 0, ?, ?, ?, ?)"
    for size, row, identifier, kind_of, kind, subject, key, accepted_at, expires, checksum, body in rows:
        if events and size > room:
            return
        events, room = events + 1, room - size
        values = (identifier, kind_of, kind, subject, key, destination, accepted_at, expires, checksum, body)
        transaction.run(insert, *values)
        remove(transaction, "number = ?", row)
        count(transaction, Priority.URGENT, 1)
        wait(transaction, destination, Priority.URGENT, 1, size)
