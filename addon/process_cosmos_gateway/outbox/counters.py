"""Counters of the outbox: updated in the transaction that changes what they count, never computed by a scan."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Self

import orjson

from process_cosmos_gateway.contract.destinations import Priority
from process_cosmos_gateway.store import Transaction

from .model import DropReason
from .quotas import Backlogs


def add_to_counter(transaction: Transaction, name: str, amount: int) -> None:
    """Add ``amount``, which may be negative, to a counter."""
    if amount:
        transaction.run("UPDATE outbox_counter SET value = value + ? WHERE name = ?", amount, name)


def read_counter(transaction: Transaction, name: str) -> int:
    """Return the value of one counter; ``schema.sql`` lists the names."""
    value: int = transaction.rows("SELECT value FROM outbox_counter WHERE name = ?", name)[0][0]
    return value


def read_counters(transaction: Transaction) -> Mapping[str, int]:
    """Return all counters by name, read in one statement."""
    return dict(transaction.rows("SELECT name, value FROM outbox_counter"))


def count_drops(transaction: Transaction, priority: Priority, reason: DropReason, number: int) -> None:
    """Count events or readings that are never sent to a destination that subscribed to them."""
    if number:
        transaction.run(
            "INSERT INTO outbox_drop VALUES (?, ?, ?) ON CONFLICT DO UPDATE SET count = count + excluded.count",
            priority,
            reason,
            number,
        )


def add_to_backlog(transaction: Transaction, destination: str, priority: Priority, events: int, size: int) -> None:
    """Add ``events`` and ``size`` (bytes), which may be negative, to the backlog of a destination."""
    transaction.run(
        "UPDATE outbox_backlog SET events = events + ?, bytes = bytes + ? WHERE destination = ? AND priority = ?",
        events,
        size,
        destination,
        priority,
    )


def read_backlog(transaction: Transaction, destination: str, priority: Priority) -> tuple[int, int]:
    """Return the pending events and bytes of a destination; (0, 0) if it is not registered."""
    rows = transaction.rows(
        "SELECT events, bytes FROM outbox_backlog WHERE destination = ? AND priority = ?", destination, priority
    )
    return rows[0] if rows else (0, 0)


def read_backlogs(transaction: Transaction) -> Backlogs:
    """Return the pending bytes by destination and priority."""
    found = transaction.rows("SELECT destination, priority, bytes FROM outbox_backlog")
    return {(name, priority): size for name, priority, size in found}


def json_array(values: Sequence[int] | Sequence[str]) -> str:
    """Return ``values`` as a JSON array for SQLite's ``json_each``."""
    # One bound value keeps the statement's text constant, and SQLite limits the number of variables, not their length.
    return orjson.dumps(values).decode()


@dataclass(slots=True)
class DestinationSnapshot:
    """The destinations, their subscriptions and backlogs, as read at the start of one transaction.

    ``backlog_bytes`` follow what the transaction enqueues; ``counters`` keep their initial values.
    """

    kinds: dict[str, set[str]]
    backlog_bytes: dict[tuple[str, str], int]
    counters: Mapping[str, int]
    _receivers: dict[tuple[str, str | None], tuple[str, ...]] = field(default_factory=dict)

    @classmethod
    def read(cls, transaction: Transaction) -> Self:
        """Read the snapshot; the cost depends only on the number of destinations."""
        kinds: dict[str, set[str]] = {
            name: set() for (name,) in transaction.rows("SELECT name FROM outbox_destination")
        }
        for kind, name in transaction.rows("SELECT kind, destination FROM outbox_kind"):
            kinds[name].add(kind)
        return cls(kinds, dict(read_backlogs(transaction)), read_counters(transaction))

    def receivers(self, kind: str, only: str | None) -> tuple[str, ...]:
        """Return the destinations of an event: ``only``, if it is registered, or the subscribers of ``kind``."""
        found = self._receivers.get((kind, only))
        if found is None:
            receivers = [name for name, kinds in self.kinds.items() if name == only or (only is None and kind in kinds)]
            found = self._receivers[kind, only] = tuple(receivers)
        return found
