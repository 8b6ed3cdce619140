"""What happens to the tables when an event is accepted, or taken back."""

from hashlib import blake2b

from process_cosmos_gateway.contract.destinations import Priority
from process_cosmos_gateway.contract.identifiers import Ulid
from process_cosmos_gateway.store import Transaction

from .model import Added, Event, Limits
from .statements import STATEMENTS

_FORGOTTEN_AT_ONCE = 1_000
_QUEUED = 1
_UNWANTED = 0


def add(transaction: Transaction, event: Event, body: bytes, now: float, limits: Limits) -> Added:
    """Take ``event`` once: remember its id, queue it if a destination wants it, keep to the limits."""
    digest = blake2b(body, digest_size=8).digest()
    wanted = _wanted(transaction, event)
    if not transaction.run("INSERT OR IGNORE INTO outbox_id VALUES (?, ?, ?)", event.id, digest, wanted):
        return _repeated(transaction, event.id, digest)
    if wanted:
        enqueue(transaction, event, body, now)
    _keep_to_limits(transaction, limits)
    return Added.ADDED


def enqueue(transaction: Transaction, event: Event, body: bytes, now: float) -> None:
    """Queue ``event`` at the end; destinations that had nothing to wait for and do not want it stay without."""
    statements = STATEMENTS[event.priority]
    [(sequence,)] = transaction.rows(
        statements.insert, event.id, event.type, event.kind, event.subject, event.key, event.only, 0, now, body
    )
    transaction.run(statements.skip, sequence=sequence, kind=event.kind, only=event.only)


def withdraw(transaction: Transaction, event: Ulid, destination: str) -> None:
    """Take back an alarm that was for ``destination`` only, and forget its id; one on its way may still arrive."""
    statements = STATEMENTS[Priority.ALARM]
    for (sequence,) in transaction.rows(statements.withdraw, event, destination):
        transaction.run(statements.drop_exceptions, sequence)
    transaction.run("DELETE FROM outbox_id WHERE id = ?", event)


def _wanted(transaction: Transaction, event: Event) -> int:
    rows = (
        transaction.rows("SELECT 1 FROM outbox_destination WHERE name = ?", event.only)
        if event.only is not None
        else transaction.rows("SELECT 1 FROM outbox_kind WHERE kind = ? LIMIT 1", event.kind)
    )
    return _QUEUED if rows else _UNWANTED


def _repeated(transaction: Transaction, event: Ulid, digest: bytes) -> Added:
    [(known,)] = transaction.rows("SELECT hash FROM outbox_id WHERE id = ?", event)
    if known == digest:
        return Added.DUPLICATE
    count(transaction, "conflict", 1)
    return Added.CONFLICT


def _keep_to_limits(transaction: Transaction, limits: Limits) -> None:
    counters: dict[str, int] = dict(transaction.rows("SELECT name, value FROM outbox_counter"))
    measurements = counters[Priority.MEASUREMENT]
    over = max(sum(counters[priority] for priority in Priority) - limits.waiting, measurements - limits.measurements)
    if over > 0 and measurements:
        statements = STATEMENTS[Priority.MEASUREMENT]
        dropped = transaction.rows(statements.drop_oldest, over)
        transaction.run_many(statements.drop_exceptions, dropped)
        count(transaction, "dropped", len(dropped))
    if counters["id"] > limits.ids:
        oldest = "DELETE FROM outbox_id WHERE id IN (SELECT id FROM outbox_id ORDER BY id LIMIT ?)"
        count(transaction, "forgotten", transaction.run(oldest, _FORGOTTEN_AT_ONCE))


def count(transaction: Transaction, name: str, more: int) -> None:
    """Add ``more`` to a counter."""
    transaction.run("UPDATE outbox_counter SET value = value + ? WHERE name = ?", more, name)
