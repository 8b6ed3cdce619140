"""What the outbox holds: read from counters, without a scan."""

from process_cosmos_gateway.contract.destinations import Priority, Waiting
from process_cosmos_gateway.store import Transaction

from .enqueue import Conditions
from .model import Depths, DropReason
from .quotas import share
from .statements import STATEMENTS

_NEARLY_FULL = 0.9


def read_depths(transaction: Transaction, under: Conditions) -> Depths:
    """Return what waits, and which priorities have hardly any room left ``under`` the present conditions."""
    counters, waiting = under.audience.counters, under.audience.bytes
    sizes = {of: max((size for (_, each), size in waiting.items() if each == of), default=0) for of in Priority}
    drops = transaction.rows("SELECT priority, reason, count FROM outbox_drop")
    return Depths(
        waiting=Waiting(
            urgent=counters[Priority.URGENT] + counters["overflow"],
            change=counters[Priority.CHANGE],
            reading=counters[Priority.READING],
        ),
        ages={of: max(0.0, under.now - accepted_at) for of, accepted_at in _oldest(transaction).items()},
        rejected=counters["rejected"],
        conflicts=counters["conflict"],
        forgotten=counters["forgotten"],
        bytes=sizes,
        drops={(Priority(priority), DropReason(reason)): number for priority, reason, number in drops},
        full=frozenset(
            priority
            for priority in Priority
            if (priority is Priority.URGENT and counters["overflow"])
            or sizes[priority] > _NEARLY_FULL * share(under.limits.quota[priority], len(waiting) // len(Priority))
            or (waiting and under.refuses(priority))
        ),
    )


def _oldest(transaction: Transaction) -> dict[Priority, float]:
    statements = {priority: each.oldest for priority, each in STATEMENTS.items()}
    statements[Priority.READING] = "SELECT accepted_at FROM outbox_reading ORDER BY sequence LIMIT 1"
    return {of: row[0] for of, statement in statements.items() for row in transaction.rows(statement)}
