"""The outbox's counters: changed in the transaction of what they count, never by a scan."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Self

import orjson

from process_cosmos_gateway.contract.destinations import Priority
from process_cosmos_gateway.store import Transaction

from .model import DropReason
from .quotas import Backlogs


def count(transaction: Transaction, name: str, more: int) -> None:
    """Add ``more`` to a counter."""
    if more:
        transaction.run("UPDATE outbox_counter SET value = value + ? WHERE name = ?", more, name)


def counted(transaction: Transaction, name: str) -> int:
    """Return one counter; ``schema.sql`` says which there are."""
    value: int = transaction.rows("SELECT value FROM outbox_counter WHERE name = ?", name)[0][0]
    return value


def counters(transaction: Transaction) -> Mapping[str, int]:
    """Return every counter by its name, in one statement."""
    return dict(transaction.rows("SELECT name, value FROM outbox_counter"))


def drop(transaction: Transaction, priority: Priority, reason: DropReason, number: int) -> None:
    """Count what was accepted, or should have been, and is not sent."""
    if number:
        transaction.run(
            "INSERT INTO outbox_drop VALUES (?, ?, ?) ON CONFLICT DO UPDATE SET count = count + excluded.count",
            priority,
            reason,
            number,
        )


def wait(transaction: Transaction, destination: str, priority: Priority, events: int, size: int) -> None:
    """Let more, or less, wait for a destination."""
    transaction.run(
        "UPDATE outbox_backlog SET events = events + ?, bytes = bytes + ? WHERE destination = ? AND priority = ?",
        events,
        size,
        destination,
        priority,
    )


def backlog(transaction: Transaction, destination: str, priority: Priority) -> tuple[int, int]:
    """Return events and bytes that wait for a destination; none if it is not known."""
    rows = transaction.rows(
        "SELECT events, bytes FROM outbox_backlog WHERE destination = ? AND priority = ?", destination, priority
    )
    return rows[0] if rows else (0, 0)


def backlogs(transaction: Transaction) -> Backlogs:
    """Return the bytes that wait, by destination and priority."""
    found = transaction.rows("SELECT destination, priority, bytes FROM outbox_backlog")
    return {(name, priority): size for name, priority, size in found}


def array(values: Sequence[int] | Sequence[str]) -> str:
    """Return values as SQLite's ``json_each`` takes them."""
    return orjson.dumps(values).decode()


@dataclass(slots=True)
class Audience:
    """Who wants what, and how much waits for whom, as one transaction sees it. ``counters``: as they were at first."""

    kinds: dict[str, set[str]]
    bytes: dict[tuple[str, str], int]
    parking: set[str]
    counters: Mapping[str, int]
    _known: dict[tuple[str, str | None], tuple[str, ...]] = field(default_factory=dict)

    @classmethod
    def read(cls, transaction: Transaction) -> Self:
        """Read it; the cost grows with the destinations only."""
        kinds: dict[str, set[str]] = {
            name: set() for (name,) in transaction.rows("SELECT name FROM outbox_destination")
        }
        for kind, name in transaction.rows("SELECT kind, destination FROM outbox_kind"):
            kinds[name].add(kind)
        parking: set[str] = set()
        known = counters(transaction)
        if known["overflow"]:
            parking = {name for (name,) in transaction.rows("SELECT DISTINCT destination FROM outbox_overflow")}
        return cls(kinds, dict(backlogs(transaction)), parking, known)

    def of(self, kind: str, only: str | None) -> tuple[str, ...]:
        """Return the destinations that want an event."""
        found = self._known.get((kind, only))
        if found is None:
            wanting = [name for name, kinds in self.kinds.items() if name == only or (only is None and kind in kinds)]
            found = self._known[kind, only] = tuple(wanting)
        return found
