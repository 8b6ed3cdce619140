"""Rejected events (dead letters): list, requeue and delete them."""

import zlib
from collections.abc import Collection
from datetime import UTC, datetime

from process_cosmos_gateway.contract.destinations import Priority, RejectedEvent
from process_cosmos_gateway.store import Transaction

from .counters import add_to_backlog, add_to_counter, json_array
from .statements import STATEMENTS

_LISTED = 500
_MARK = b',"replayed":true}'
_MOVED_AT_ONCE = 500
_COLUMNS = "number, destination, priority, id, type, kind, subject, key, body"
_SELECTED = "(:all OR number IN (SELECT value FROM json_each(:numbers)))"


def list_rejected(transaction: Transaction, after: int) -> tuple[RejectedEvent, ...]:
    """Return the oldest 500 rejected events with a number above ``after``."""
    rows = transaction.rows(
        "SELECT number, id, destination, type, subject, code, message, attempts, rejected_at, reply"
        " FROM outbox_rejected WHERE number > ? ORDER BY number LIMIT ?",
        after,
        _LISTED,
    )
    return tuple(
        RejectedEvent(
            event=identifier,
            destination=destination,
            type=kind,
            subject=subject,
            code=code,
            message=message,
            number=number,
            attempts=attempts,
            rejected_at=datetime.fromtimestamp(rejected_at, UTC),
            reply=reply,
        )
        for number, identifier, destination, kind, subject, code, message, attempts, rejected_at, reply in rows
    )


def requeue(transaction: Transaction, numbers: Collection[int] | None, now: float) -> int:
    """Requeue rejected events (None: all) for the destination that rejected each, marked as replayed; return how many.

    Reading batches are requeued as changes.
    """
    names = {"all": numbers is None, "numbers": json_array(list(numbers or ()))}
    sent, last = 0, 0
    select = f"SELECT {_COLUMNS} FROM outbox_rejected WHERE number > :after AND {_SELECTED}"  # noqa: S608 - the constants above
    while rows := transaction.rows(
        f"{select} ORDER BY number LIMIT :limit",
        **names,
        after=last,
        limit=_MOVED_AT_ONCE,
    ):
        for number, destination, was, identifier, kind_of, kind, subject, key, rejected_body in rows:
            priority = Priority.URGENT if was == Priority.URGENT else Priority.CHANGE
            body = _mark_replayed(rejected_body)
            # Without a slot: no newer value supersedes an event that a person has asked for.
            values = (identifier, kind_of, kind, subject, key, destination, None, 1, now, zlib.crc32(body), body)
            transaction.run(STATEMENTS[priority].insert + f"({', '.join('?' * len(values))})", *values)
            add_to_counter(transaction, priority, 1)
            add_to_backlog(transaction, destination, priority, 1, len(body))
            last = number
        sent += len(rows)
    delete_rejected(transaction, numbers)
    # Without ``insert_events``, nothing has moved the cursors of the other destinations past these rows yet.
    for statements in STATEMENTS.values():
        for (name,) in transaction.rows("SELECT name FROM outbox_destination"):
            transaction.run(statements.advance_cursor, destination=name, reached=0)
    return sent


def _mark_replayed(body: bytes) -> bytes:
    """Return an encoded event with the CloudEvents extension attribute ``replayed``."""
    return body if body.endswith(_MARK) else body[:-1] + _MARK


def delete_rejected(transaction: Transaction, numbers: Collection[int] | None) -> int:
    """Delete rejected events (None: all); return how many."""
    deleted = transaction.run(
        f"DELETE FROM outbox_rejected WHERE {_SELECTED}",  # noqa: S608 - the constant above
        all=numbers is None,
        numbers=json_array(list(numbers or ())),
    )
    add_to_counter(transaction, "rejected", -deleted)
    return deleted
