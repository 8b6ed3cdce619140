"""What happens to the tables when a destination joins, changes its kinds, or goes."""

from collections.abc import Collection

from process_cosmos_gateway.contract.destinations import EventKind, Priority
from process_cosmos_gateway.store import Transaction

from . import overflow_queue, reading_batches
from .counters import count
from .statements import STATEMENTS


def join(transaction: Transaction, name: str, kinds: Collection[EventKind]) -> bool:
    """Let ``name`` have events of ``kinds``; a new one begins at the end of the queue.

    Returns whether it did not hear of alerts before, and now wants to.
    """
    is_new = transaction.run("INSERT OR IGNORE INTO outbox_destination (name) VALUES (?)", name) > 0
    before = {kind for (kind,) in transaction.rows("SELECT kind FROM outbox_kind WHERE destination = ?", name)}
    # A salvage may have saved the name without its place: then all that waits is offered to it again.
    lost = 0 if is_new else sum(transaction.run(each.begin_at_start, name) for each in STATEMENTS.values())
    if not is_new and before == set(kinds) and not lost:
        return False  # every start comes by here: nothing may be scanned
    transaction.run("DELETE FROM outbox_kind WHERE destination = ?", name)
    transaction.run_many("INSERT INTO outbox_kind VALUES (?, ?)", [(kind, name) for kind in kinds])
    for statements in STATEMENTS.values():
        if is_new:
            transaction.run(statements.begin_at_end, name)
        else:
            transaction.run(statements.advance, destination=name, reached=0)
    if EventKind.READING not in before:
        reading_batches.join(transaction, name)
    elif EventKind.READING not in kinds:
        transaction.run("DELETE FROM outbox_reading_batch WHERE destination = ?", name)
    _clean_all(transaction)
    _count_anew(transaction, name, reads=EventKind.READING in kinds and EventKind.READING in before)
    return EventKind.ALERT in kinds and EventKind.ALERT not in before


def _count_anew(transaction: Transaction, name: str, *, reads: bool) -> None:
    if not reads:
        transaction.run("INSERT OR REPLACE INTO outbox_backlog VALUES (?, ?, 0, 0)", name, Priority.READING)
    for priority, statements in STATEMENTS.items():
        [(events, size)] = transaction.rows(statements.pending_in_all, destination=name)
        transaction.run("INSERT OR REPLACE INTO outbox_backlog VALUES (?, ?, ?, ?)", name, priority, events, size)


def leave(transaction: Transaction, name: str) -> None:
    """Forget ``name``, with what only it was waiting for and what it has rejected."""
    transaction.run("DELETE FROM outbox_destination WHERE name = ?", name)
    for table in ("kind", "cursor", "exception", "skip", "backlog", "reading_batch"):
        transaction.run(f"DELETE FROM outbox_{table} WHERE destination = ?", name)  # noqa: S608 - names from above
    count(transaction, "rejected", -transaction.run("DELETE FROM outbox_rejected WHERE destination = ?", name))
    overflow_queue.remove(transaction, "destination = ?", name)
    _clean_all(transaction)


def _clean_all(transaction: Transaction) -> None:
    for priority, statements in STATEMENTS.items():
        count(transaction, priority, -transaction.run(statements.clean_all))
    reading_batches.clean(transaction)
