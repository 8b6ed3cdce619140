"""The overflow queue: urgent events of alerts for which the share of a destination has no room."""

import zlib

from process_cosmos_gateway.contract.destinations import Priority
from process_cosmos_gateway.store import Transaction

from .counters import add_to_backlog, add_to_counter, count_drops, read_backlog, read_counter
from .model import DropReason, Event, Limits
from .quotas import share_per_destination
from .statements import STATEMENTS

_MOVED_AT_ONCE = 500


def append_event(  # noqa: PLR0917 - the row, and the limit
    transaction: Transaction, destination: str, event: Event, body: bytes, now: float, max_bytes: int
) -> None:
    """Append ``event``; beyond ``max_bytes``, drop expired events, then older events of the same alert."""
    for_one = int(event.only is not None)
    if read_counter(transaction, "overflow_bytes") + len(body) > max_bytes:
        drop_expired(transaction, now)
    if read_counter(transaction, "overflow_bytes") + len(body) > max_bytes:
        # Notification requests and states of the same alert do not replace each other.
        superseded = delete_rows(
            transaction, "destination = ? AND key = ? AND asked = ?", destination, event.key, for_one
        )
        count_drops(transaction, Priority.URGENT, DropReason.SUPERSEDED, superseded)
    # Appended even if the limit is still exceeded: an urgent event of an alert is never refused.
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
        for_one,
        now,
        expires,
        zlib.crc32(body),
        body,
    )
    add_to_counter(transaction, "overflow", 1)
    add_to_counter(transaction, "overflow_bytes", len(body))


def has_expired_events(transaction: Transaction, now: float) -> bool:
    """Return whether the overflow queue holds an expired event."""
    expired = "SELECT 1 FROM outbox_overflow WHERE expires_at <= ? LIMIT 1"
    return bool(read_counter(transaction, "overflow") and transaction.rows(expired, now))


def drop_expired(transaction: Transaction, now: float) -> None:
    """Delete expired events and count them as dropped."""
    count_drops(transaction, Priority.URGENT, DropReason.EXPIRED, delete_rows(transaction, "expires_at <= ?", now))


def delete_rows(transaction: Transaction, where: str, *values: str | float) -> int:
    """Delete the rows that match the SQL condition ``where``; return how many."""
    sizes = transaction.rows(
        f"DELETE FROM outbox_overflow WHERE {where} RETURNING length(body)",  # noqa: S608 - a constant of the caller
        *values,
    )
    add_to_counter(transaction, "overflow", -len(sizes))
    add_to_counter(transaction, "overflow_bytes", -sum(size for (size,) in sizes))
    return len(sizes)


def can_move_to_queue(transaction: Transaction, destination: str, limits: Limits) -> bool:
    """Return whether the queue has room for the oldest event in the overflow queue of ``destination``."""
    if not read_counter(transaction, "overflow"):
        return False
    oldest = "SELECT length(body) FROM outbox_overflow WHERE destination = ? ORDER BY number LIMIT 1"
    events, room = _free_share(transaction, destination, limits)
    return any(size <= room or not events for (size,) in transaction.rows(oldest, destination))


def _free_share(transaction: Transaction, destination: str, limits: Limits) -> tuple[int, int]:
    """Return the number of urgent events queued for ``destination``, and the bytes left of its share."""
    [(destinations,)] = transaction.rows("SELECT count(*) FROM outbox_destination")
    events, size = read_backlog(transaction, destination, Priority.URGENT)
    return events, share_per_destination(limits.quota[Priority.URGENT], destinations) - size


def move_to_queue(transaction: Transaction, destination: str, limits: Limits) -> None:
    """Move events to the queue in order, at most 500, while there is room. An empty queue has room for any event."""
    if not read_counter(transaction, "overflow"):
        return
    events, room = _free_share(transaction, destination, limits)
    rows = transaction.rows(
        "SELECT length(body), number, id, type, kind, subject, key, accepted_at, expires_at, checksum, body"
        " FROM outbox_overflow WHERE destination = ? ORDER BY number LIMIT ?",
        destination,
        _MOVED_AT_ONCE,
    )
    insert = STATEMENTS[Priority.URGENT].insert + "(?, ?, ?, ?, ?, ?, NULL, 0, ?, ?, ?, ?)"
    for size, row, identifier, kind_of, kind, subject, key, accepted_at, expires, checksum, body in rows:
        # A smaller event further behind must not overtake this one.
        if events and size > room:
            return
        events, room = events + 1, room - size
        # For this destination only: the others have the event in a row of their own.
        values = (identifier, kind_of, kind, subject, key, destination, accepted_at, expires, checksum, body)
        transaction.run(insert, *values)
        delete_rows(transaction, "number = ?", row)
        add_to_counter(transaction, Priority.URGENT, 1)
        add_to_backlog(transaction, destination, Priority.URGENT, 1, size)
