"""Events a destination refused for good: listed, sent again, forgotten."""

import zlib
from collections.abc import Collection
from datetime import UTC, datetime
from typing import Any

from process_cosmos_gateway.contract.destinations import Priority, RejectedEvent
from process_cosmos_gateway.contract.identifiers import Ulid
from process_cosmos_gateway.store import Transaction

from .counters import array, count, wait
from .statements import STATEMENTS

_LISTED = 500
_MARK = b',"replayed":true}'
_MOVED_AT_ONCE = 500
_COLUMNS = "number, destination, priority, id, type, kind, subject, key, body"
_CHOSEN = "(:all OR number IN (SELECT value FROM json_each(:numbers)))"


def listed(transaction: Transaction, after: int) -> tuple[RejectedEvent, ...]:
    """Return the oldest 500 after a number."""
    rows = transaction.rows(
        "SELECT number, id, destination, type, subject, code, message, attempts, rejected_at, reply"
        " FROM outbox_rejected WHERE number > ? ORDER BY number LIMIT ?",
        after,
        _LISTED,
    )
    return tuple(_event(*row) for row in rows)


def _event(number: int, identifier: Ulid, destination: str, *row: Any) -> RejectedEvent:  # noqa: ANN401 - a row's rest
    kind, subject, code, message, attempts, rejected_at, reply = row
    return RejectedEvent(
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


def send_again(transaction: Transaction, numbers: Collection[int] | None, now: float) -> int:
    """Queue rejected events anew, marked as replayed, each for who rejected it; packs go with the changes."""
    names = {"all": numbers is None, "numbers": array(list(numbers or ()))}
    sent, last = 0, 0
    some = f"SELECT {_COLUMNS} FROM outbox_rejected WHERE number > :after AND {_CHOSEN}"  # noqa: S608 - the texts above
    while rows := transaction.rows(
        f"{some} ORDER BY number LIMIT :limit",
        **names,
        after=last,
        limit=_MOVED_AT_ONCE,
    ):
        for number, destination, was, identifier, kind_of, kind, subject, key, refused in rows:
            priority = Priority.URGENT if was == Priority.URGENT else Priority.CHANGE
            body = _marked(refused)
            values = (identifier, kind_of, kind, subject, key, destination, None, 1, now, None, zlib.crc32(body), body)
            transaction.run(STATEMENTS[priority].insert + f"({', '.join('?' * len(values))})", *values)
            count(transaction, priority, 1)
            wait(transaction, destination, priority, 1, len(body))
            last = number
        sent += len(rows)
    discard(transaction, numbers)
    for statements in STATEMENTS.values():
        for (name,) in transaction.rows("SELECT name FROM outbox_destination"):
            transaction.run(statements.advance, destination=name, reached=0)
    return sent


def _marked(body: bytes) -> bytes:
    """Return an encoded event with the extension attribute that says a person has sent it again."""
    return body if body.endswith(_MARK) else body[:-1] + _MARK


def discard(transaction: Transaction, numbers: Collection[int] | None) -> int:
    """Forget rejected events (None: all); return how many."""
    gone = transaction.run(
        f"DELETE FROM outbox_rejected WHERE {_CHOSEN}",  # noqa: S608 - the text above
        all=numbers is None,
        numbers=array(list(numbers or ())),
    )
    count(transaction, "rejected", -gone)
    return gone
