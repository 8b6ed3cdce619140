"""Totals of queued and delivered events since the store was created."""

from collections.abc import Mapping
from dataclasses import dataclass

from process_cosmos_gateway.contract.destinations import Priority
from process_cosmos_gateway.store import Transaction


@dataclass(frozen=True, slots=True, kw_only=True)
class Totals:
    """Totals. ``queued``: rows per priority, one for each reading; ``delivered``: events per destination."""

    queued: Mapping[Priority, int]
    delivered: Mapping[str, int]


def read_totals(transaction: Transaction) -> Totals:
    """Return the totals from SQLite's AUTOINCREMENT sequences and each destination's own counter, without a scan."""
    numbers: dict[str, int] = dict(transaction.rows("SELECT name, seq FROM sqlite_sequence"))
    return Totals(
        queued={priority: numbers.get(f"outbox_{priority}", 0) for priority in Priority},
        delivered=dict(transaction.rows("SELECT name, delivered FROM outbox_destination")),
    )
