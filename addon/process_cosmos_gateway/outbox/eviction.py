"""What happens to what waits for a destination whose share of changes is full; and how events are given up."""

from collections.abc import Collection, Sequence

from process_cosmos_gateway.contract.destinations import Priority
from process_cosmos_gateway.store import Transaction

from .counters import array, backlog, count, drop, wait
from .model import DropReason
from .quotas import Bound
from .statements import STATEMENTS

type Sized = tuple[int, int]
"""A row's number, and the length of its body."""

_LOOKED_AT = 500


def relieve(transaction: Transaction, destination: str, to: Bound, slots: Collection[str]) -> None:
    """Reduce the changes that wait for ``destination`` to the bound.

    Older values of a slot go first (those of ``slots``, then among the oldest), then the oldest.
    """
    statements = STATEMENTS[Priority.CHANGE]

    def size() -> int:
        return backlog(transaction, destination, Priority.CHANGE)[1]

    for slot in slots:
        older = transaction.rows(statements.older_of_slot, destination=destination, slot=slot)
        give_up(transaction, destination, Priority.CHANGE, older, DropReason.SUPERSEDED)
    if size() > to.most:
        some = transaction.rows(statements.superseded, destination=destination, limit=_LOOKED_AT)
        give_up(transaction, destination, Priority.CHANGE, some, DropReason.SUPERSEDED)
    while (waiting := size()) > to.most:
        oldest = transaction.rows(statements.first_pending, destination=destination, limit=_LOOKED_AT)
        chosen = _enough(oldest, waiting - to.target)
        if not chosen:
            return
        give_up(transaction, destination, Priority.CHANGE, chosen, DropReason.QUOTA)


def _enough(rows: Sequence[Sized], needed: int) -> Sequence[Sized]:
    freed = 0
    for place, (_, size) in enumerate(rows, 1):
        freed += size
        if freed >= needed:
            return rows[:place]
    return rows


def give_up(
    transaction: Transaction, destination: str, priority: Priority, rows: Sequence[Sized], reason: DropReason
) -> None:
    """Send these pending events to ``destination`` no more, and count them; others may still wait for them."""
    if not rows:
        return
    statements = STATEMENTS[priority]
    sequences = array([sequence for sequence, _ in rows])
    transaction.run(statements.settle_exceptions, destination, sequences)
    transaction.run(statements.skip, destination=destination, sequences=sequences)
    wait(transaction, destination, priority, -len(rows), -sum(size for _, size in rows))
    drop(transaction, priority, reason, len(rows))
    gone = transaction.rows(statements.clean, sequences)
    transaction.run_many(statements.drop_marks.replace("<mark>", "skip"), gone)
    count(transaction, priority, -len(gone))


def give_up_for_all(transaction: Transaction, priority: Priority, sequences: Sequence[int], reason: DropReason) -> None:
    """Send these events to nobody any more; each is counted once for each destination that waited for it."""
    wanted = array(sequences)
    for (name,) in transaction.rows("SELECT name FROM outbox_destination"):
        rows = transaction.rows(STATEMENTS[priority].pending, destination=name, sequences=wanted)
        give_up(transaction, name, priority, rows, reason)
