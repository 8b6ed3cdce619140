"""Subscriptions of destinations to kinds of events: add, change and remove them."""

from collections.abc import Collection

from process_cosmos_gateway.contract.destinations import EventKind, Priority
from process_cosmos_gateway.store import Transaction

from . import reading_batches
from .counters import add_to_counter
from .statements import STATEMENTS


def subscribe(transaction: Transaction, name: str, kinds: Collection[EventKind]) -> bool:
    """Subscribe ``name`` to exactly ``kinds``; a new destination starts at the end of the queue.

    Return whether the subscription to alerts is new.
    """
    is_new = transaction.run("INSERT OR IGNORE INTO outbox_destination (name) VALUES (?)", name) > 0
    before = {kind for (kind,) in transaction.rows("SELECT kind FROM outbox_kind WHERE destination = ?", name)}
    if not is_new and before == set(kinds):
        return False  # the usual case at each start: return before anything is scanned
    transaction.run("DELETE FROM outbox_kind WHERE destination = ?", name)
    transaction.run_many("INSERT INTO outbox_kind VALUES (?, ?)", [(kind, name) for kind in kinds])
    for statements in STATEMENTS.values():
        if is_new:
            transaction.run(statements.begin_at_end, name)
        else:
            transaction.run(statements.advance_cursor, destination=name, reached=0)
    if EventKind.READING not in before:
        reading_batches.start_at_end(transaction, name)
    elif EventKind.READING not in kinds:
        transaction.run("DELETE FROM outbox_reading_batch WHERE destination = ?", name)
    _delete_settled(transaction)
    _recount_backlog(transaction, name, keeps_readings=EventKind.READING in kinds and EventKind.READING in before)
    return EventKind.ALERT in kinds and EventKind.ALERT not in before


def _recount_backlog(transaction: Transaction, name: str, *, keeps_readings: bool) -> None:
    if not keeps_readings:
        transaction.run("INSERT OR REPLACE INTO outbox_backlog VALUES (?, ?, 0, 0)", name, Priority.READING)
    for priority, statements in STATEMENTS.items():
        # A scan, which only a change of the subscriptions needs: many events start or stop being pending at once.
        [(events, size)] = transaction.rows(statements.pending_totals, destination=name)
        transaction.run("INSERT OR REPLACE INTO outbox_backlog VALUES (?, ?, ?, ?)", name, priority, events, size)


def unsubscribe(transaction: Transaction, name: str) -> None:
    """Remove ``name``, the events pending for it alone and those it rejected."""
    transaction.run("DELETE FROM outbox_destination WHERE name = ?", name)
    for table in ("kind", "cursor", "exception", "skip", "backlog", "reading_batch"):
        transaction.run(f"DELETE FROM outbox_{table} WHERE destination = ?", name)  # noqa: S608 - the names above
    add_to_counter(transaction, "rejected", -transaction.run("DELETE FROM outbox_rejected WHERE destination = ?", name))
    _delete_settled(transaction)


def _delete_settled(transaction: Transaction) -> None:
    for priority, statements in STATEMENTS.items():
        add_to_counter(transaction, priority, -transaction.run(statements.delete_all_settled))
    reading_batches.delete_settled_readings(transaction)
