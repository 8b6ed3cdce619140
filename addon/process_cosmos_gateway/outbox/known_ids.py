"""The ids of events that were accepted: remembered for repeats, forgotten in the order of their arrival.

An id is an opaque key: its letters say nothing about when it came. Each arrival belongs to a generation, a sixteenth of
what may be remembered. Where there are too many, a sweep in the order of the ids removes those of the oldest
generation, piece by piece, so that no commit waits for a scan. An index on arrivals would take 30 bytes an id more.
"""

from collections.abc import Mapping, Sequence
from hashlib import blake2b

from process_cosmos_gateway.contract.identifiers import Ulid, milliseconds_of
from process_cosmos_gateway.store import Transaction

from .counters import count, counted
from .model import Added, Limits
from .quotas import ID_BYTES, id_quota

type _Row = tuple[str, bytes, int]

_GENERATIONS = 16
_SWEPT_AT_ONCE = 1_000
_SWEPT_PER_ID = 32
"""Rows that are looked at for each new id, beside the first piece: twice what keeps the number of ids as it is."""

_BEYOND = "\U0010ffff"
"""Greater than any id."""

_REMEMBER = "INSERT OR IGNORE INTO outbox_id VALUES "


def has(transaction: Transaction, event: Ulid) -> bool:
    """Return whether an id is remembered."""
    return bool(transaction.rows("SELECT 1 FROM outbox_id WHERE id = ?", event))


def remember(
    transaction: Transaction,
    events: Sequence[tuple[Ulid, bytes]],
    counters: Mapping[str, int],
    limits: Limits,
    free: int,
) -> Sequence[Added]:
    """Remember the ids that are new, each with a hash of its body; return which were, and forget the oldest.

    ``counters``: as they are now; ``free``: bytes that can be written to the disk now.
    """
    generation = counters["id_generation"]
    rows = [(event, blake2b(body, digest_size=8).digest(), generation) for event, body in events]
    transaction.run("SAVEPOINT ids")
    new = transaction.insert(_REMEMBER, rows)
    if new == len(rows):
        added = [Added.ADDED] * new
    else:
        transaction.run("ROLLBACK TO ids")
        added = [_remember_one(transaction, row) for row in rows]
        new = added.count(Added.ADDED)
    transaction.run("RELEASE ids")
    count(transaction, "id", new)
    count(transaction, "id_generation_size", new)
    ids, of_generation = counters["id"] + new, counters["id_generation_size"] + new
    most = max(1, id_quota(limits.id_bytes, free, ids * ID_BYTES) // ID_BYTES)
    if of_generation * _GENERATIONS >= most:
        _begin_generation(transaction)
    if ids > most:
        _forget_oldest(transaction, most, 1 + new * _SWEPT_PER_ID // _SWEPT_AT_ONCE)
    return added


def forget(transaction: Transaction, event: Ulid) -> None:
    """Forget the id of an event that was taken back: sent again, it is accepted anew."""
    count(transaction, "id", -transaction.run("DELETE FROM outbox_id WHERE id = ?", event))


def note_own(transaction: Transaction, events: Sequence[Ulid]) -> None:
    """Note the newest of the ids the gateway has made itself: after a restart it goes on above them."""
    if events:
        newest = milliseconds_of(max(events))
        transaction.run("UPDATE outbox_counter SET value = max(value, ?) WHERE name = 'own_id_ms'", newest)


def _remember_one(transaction: Transaction, row: _Row) -> Added:
    if transaction.run(_REMEMBER + "(?, ?, ?)", *row):
        return Added.ADDED
    [(known,)] = transaction.rows("SELECT hash FROM outbox_id WHERE id = ?", row[0])
    if known == row[1]:
        return Added.DUPLICATE
    count(transaction, "conflict", 1)
    return Added.CONFLICT


def _begin_generation(transaction: Transaction) -> None:
    count(transaction, "id_generation", 1)
    transaction.run("UPDATE outbox_counter SET value = 0 WHERE name = 'id_generation_size'")


def _forget_oldest(transaction: Transaction, most: int, sweeps: int) -> None:
    """Remove ids of the oldest generation while there are too many, in ``sweeps`` pieces at most."""
    for _ in range(sweeps):
        oldest = counted(transaction, "id_oldest")
        if counted(transaction, "id") <= most or oldest >= counted(transaction, "id_generation"):
            return
        _sweep(transaction, oldest)


def _sweep(transaction: Transaction, oldest: int) -> None:
    """Remove what is of generation ``oldest`` among the next ids; after the last one begin again, for the next."""
    [(begin,)] = transaction.rows("SELECT id FROM outbox_id_sweep")
    end = transaction.rows(
        "SELECT id FROM outbox_id WHERE id > ? ORDER BY id LIMIT 1 OFFSET ?", begin, _SWEPT_AT_ONCE - 1
    )
    until = end[0][0] if end else _BEYOND
    forgotten = transaction.run(
        "DELETE FROM outbox_id WHERE id > ? AND id <= ? AND generation <= ?", begin, until, oldest
    )
    count(transaction, "id", -forgotten)
    count(transaction, "forgotten", forgotten)
    transaction.run("UPDATE outbox_id_sweep SET id = ?", until if end else "")
    if not end:
        count(transaction, "id_oldest", 1)
