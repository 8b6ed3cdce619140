"""Queue sizes of the outbox, read from counters without a scan."""

from process_cosmos_gateway.contract.destinations import Priority, Waiting
from process_cosmos_gateway.store import Transaction

from .enqueue import EnqueueContext
from .model import Depths, DropReason
from .quotas import share_per_destination
from .statements import STATEMENTS

_NEARLY_FULL = 0.9

type Totals = tuple[dict[str, int], dict[str, int]]


def read_depths(transaction: Transaction, context: EnqueueContext) -> Depths:
    """Return the queue sizes, and the priorities with hardly any room left under the current limits."""
    counters, waiting = context.destinations.counters, context.destinations.backlog_bytes
    sizes = {
        priority: max((size for (_, each), size in waiting.items() if each == priority), default=0)
        for priority in Priority
    }
    drops = transaction.rows("SELECT priority, reason, count FROM outbox_drop")
    return Depths(
        waiting=Waiting(**{priority: counters[priority] for priority in Priority}),
        ages={
            priority: max(0.0, context.now - accepted_at)
            for priority, accepted_at in _oldest_accepted_at(transaction).items()
        },
        rejected=counters["rejected"],
        conflicts=counters["conflict"],
        forgotten=counters["forgotten"],
        bytes=sizes,
        drops={(Priority(priority), DropReason(reason)): number for priority, reason, number in drops},
        full=frozenset(
            priority
            for priority in Priority
            if sizes[priority]
            > _NEARLY_FULL * share_per_destination(context.limits.quota[priority], len(waiting) // len(Priority))
            or (waiting and context.refuses(priority))
        ),
    )


def read_totals(transaction: Transaction) -> Totals:
    """Return how many events were queued, by priority, and delivered, by destination, since the store was created.

    A reading counts as an event. Both come from numbers that SQLite and the destinations keep, without a scan.
    """
    numbers: dict[str, int] = dict(transaction.rows("SELECT name, seq FROM sqlite_sequence"))
    queued = {str(priority): numbers.get(f"outbox_{priority}", 0) for priority in Priority}
    return queued, dict(transaction.rows("SELECT name, delivered FROM outbox_destination"))


def _oldest_accepted_at(transaction: Transaction) -> dict[Priority, float]:
    # The lowest number is the oldest event: ``min(accepted_at)`` has no index and would scan the queue.
    statements = {priority: each.oldest_accepted_at for priority, each in STATEMENTS.items()}
    statements[Priority.READING] = "SELECT accepted_at FROM outbox_reading ORDER BY sequence LIMIT 1"
    return {priority: row[0] for priority, statement in statements.items() for row in transaction.rows(statement)}
