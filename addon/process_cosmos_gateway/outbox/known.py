"""The ids of events that were accepted: remembered for repeats, forgotten in the order of their arrival.

An id is an opaque key: its letters say nothing about when it came. Each arrival belongs to a generation, a sixteenth of
what may be remembered. Where there are too many, a sweep in the order of the ids removes those of the oldest
generation, piece by piece, so that no commit waits for a scan. An index on arrivals would take 30 bytes an id more.
"""

from collections.abc import Sequence
from hashlib import blake2b
from itertools import chain

from process_cosmos_gateway.contract.identifiers import Ulid, milliseconds_of
from process_cosmos_gateway.store import Transaction

from .books import count, counted
from .model import Added, Limits
from .quotas import ID_BYTES, id_quota

type _Row = tuple[str, bytes, int]

_AT_ONCE = (64, 16, 4, 1)
"""Rows to a statement: few sizes, so that each is prepared once."""

_GENERATIONS = 16
_SWEPT_AT_ONCE = 1_000
_MOST_SWEPT = 32_000
"""Rows a commit looks at, at most: a millisecond or two."""

_REMEMBER = "INSERT OR IGNORE INTO outbox_id VALUES "


def has(transaction: Transaction, event: Ulid) -> bool:
    """Return whether an id is remembered."""
    return bool(transaction.rows("SELECT 1 FROM outbox_id WHERE id = ?", event))


def remember(
    transaction: Transaction, events: Sequence[tuple[Ulid, bytes]], limits: Limits, free: int
) -> Sequence[Added]:
    """Remember the ids that are new, each with a hash of its body; return which were, and forget the oldest.

    ``free``: bytes that can be written to the disk now.
    """
    generation = counted(transaction, "id_generation")
    rows = [(event, blake2b(body, digest_size=8).digest(), generation) for event, body in events]
    transaction.run("SAVEPOINT ids")
    new = _insert(transaction, rows)
    if new == len(rows):
        added = [Added.ADDED] * new
    else:
        transaction.run("ROLLBACK TO ids")
        added = [_remember_one(transaction, row) for row in rows]
        new = added.count(Added.ADDED)
    transaction.run("RELEASE ids")
    count(transaction, "id", new)
    count(transaction, "id_generation_size", new)
    room = id_quota(limits.id_bytes, free, counted(transaction, "id") * ID_BYTES)
    _forget_oldest(transaction, max(1, room // ID_BYTES))
    return added


def forget(transaction: Transaction, event: Ulid) -> None:
    """Forget one id."""
    count(transaction, "id", -transaction.run("DELETE FROM outbox_id WHERE id = ?", event))


def note_own(transaction: Transaction, events: Sequence[Ulid]) -> None:
    """Note the newest of the ids the gateway has made itself: after a restart it goes on above them."""
    if events:
        newest = milliseconds_of(max(events))
        transaction.run("UPDATE outbox_counter SET value = max(value, ?) WHERE name = 'own_id_ms'", newest)


def _insert(transaction: Transaction, rows: Sequence[_Row]) -> int:
    begin = new = 0
    for size in _AT_ONCE:
        while len(rows) - begin >= size:
            some = rows[begin : begin + size]
            new += transaction.run(_REMEMBER + ", ".join(["(?, ?, ?)"] * size), *chain.from_iterable(some))
            begin += size
    return new


def _remember_one(transaction: Transaction, row: _Row) -> Added:
    if transaction.run(_REMEMBER + "(?, ?, ?)", *row):
        return Added.ADDED
    [(known,)] = transaction.rows("SELECT hash FROM outbox_id WHERE id = ?", row[0])
    if known == row[1]:
        return Added.DUPLICATE
    count(transaction, "conflict", 1)
    return Added.CONFLICT


def _forget_oldest(transaction: Transaction, most: int) -> None:
    """Begin another generation where this one is full; remove ids of the oldest one while there are too many."""
    if counted(transaction, "id_generation_size") * _GENERATIONS >= most:
        count(transaction, "id_generation", 1)
        transaction.run("UPDATE outbox_counter SET value = 0 WHERE name = 'id_generation_size'")
    swept = 0
    while counted(transaction, "id") > most and swept < _MOST_SWEPT:
        oldest = counted(transaction, "id_oldest")
        if oldest >= counted(transaction, "id_generation"):
            return
        _sweep(transaction, oldest)
        swept += _SWEPT_AT_ONCE


def _sweep(transaction: Transaction, oldest: int) -> None:
    """Remove what is of generation ``oldest`` among the next ids; after the last one begin again, for the next."""
    [(begin,)] = transaction.rows("SELECT id FROM outbox_id_sweep")
    end = transaction.rows(
        "SELECT id FROM outbox_id WHERE id > ? ORDER BY id LIMIT 1 OFFSET ?", begin, _SWEPT_AT_ONCE - 1
    )
    until = end[0][0] if end else None
    forgotten = transaction.run(
        "DELETE FROM outbox_id WHERE id > ?1 AND (?2 IS NULL OR id <= ?2) AND generation <= ?3", begin, until, oldest
    )
    count(transaction, "id", -forgotten)
    count(transaction, "forgotten", forgotten)
    transaction.run("UPDATE outbox_id_sweep SET id = ?", until or "")
    if until is None:
        count(transaction, "id_oldest", 1)
