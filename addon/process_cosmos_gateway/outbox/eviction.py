"""Eviction of pending events from a full share, and dropping of pending events in general."""

from collections.abc import Collection, Sequence

from process_cosmos_gateway.contract.destinations import Priority
from process_cosmos_gateway.store import Transaction

from .counters import add_to_backlog, add_to_counter, count_drops, json_array, read_backlog
from .model import DropReason
from .quotas import Watermarks
from .statements import STATEMENTS

type SizedRow = tuple[int, int]
"""Sequence number of a row, and the length of its body in bytes."""

_ROWS_PER_STEP = 500


def reduce_backlog(
    transaction: Transaction, destination: str, priority: Priority, marks: Watermarks, slots: Collection[str]
) -> None:
    """Drop pending events of ``destination`` until its backlog is within ``marks``.

    Superseded events are dropped first: those of ``slots``, then changes among the oldest 500; then the oldest changes.
    Urgent events that are not superseded stay.
    """
    statements = STATEMENTS[priority]

    def size() -> int:
        return read_backlog(transaction, destination, priority)[1]

    for slot in slots:
        older = transaction.rows(statements.older_of_slot, destination=destination, slot=slot)
        drop_events(transaction, destination, priority, older, DropReason.SUPERSEDED)
    if priority is Priority.URGENT:
        return
    if size() > marks.high:
        # Only among the oldest: urgent events wait while the one writer would search the whole backlog.
        some = transaction.rows(statements.superseded_among_oldest, destination=destination, limit=_ROWS_PER_STEP)
        drop_events(transaction, destination, Priority.CHANGE, some, DropReason.SUPERSEDED)
    while (waiting := size()) > marks.high:
        oldest = transaction.rows(statements.first_pending, destination=destination, limit=_ROWS_PER_STEP)
        chosen = _oldest_to_free(oldest, waiting - marks.low)
        if not chosen:
            return
        drop_events(transaction, destination, Priority.CHANGE, chosen, DropReason.QUOTA)


def _oldest_to_free(rows: Sequence[SizedRow], needed: int) -> Sequence[SizedRow]:
    freed = 0
    for count, (_, size) in enumerate(rows, 1):
        freed += size
        if freed >= needed:
            return rows[:count]
    return rows


def drop_events(
    transaction: Transaction, destination: str, priority: Priority, rows: Sequence[SizedRow], reason: DropReason
) -> None:
    """Drop pending events of ``destination`` and count them; delete those that no other destination waits for."""
    if not rows:
        return
    statements = STATEMENTS[priority]
    sequences = json_array([sequence for sequence, _ in rows])
    # Both marks precede ``delete_settled``, which deletes only rows that no destination waits for.
    transaction.run(statements.settle_exceptions, destination, sequences)
    transaction.run(statements.mark_skipped, destination=destination, sequences=sequences)
    add_to_backlog(transaction, destination, priority, -len(rows), -sum(size for _, size in rows))
    count_drops(transaction, priority, reason, len(rows))
    deleted = transaction.rows(statements.delete_settled, sequences)
    transaction.run_many(statements.delete_marks.replace("<mark>", "skip"), deleted)
    add_to_counter(transaction, priority, -len(deleted))


def drop_for_all_destinations(
    transaction: Transaction, priority: Priority, sequences: Sequence[int], reason: DropReason
) -> None:
    """Drop events for every destination; each is counted once per destination that was waiting for it."""
    numbers = json_array(sequences)
    for (name,) in transaction.rows("SELECT name FROM outbox_destination"):
        rows = transaction.rows(STATEMENTS[priority].pending, destination=name, sequences=numbers)
        drop_events(transaction, name, priority, rows, reason)
