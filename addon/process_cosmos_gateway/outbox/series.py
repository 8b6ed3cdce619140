"""The table of reading series (device, property, unit); series without pending readings are deleted."""

from collections.abc import Collection

from process_cosmos_gateway.store import Transaction

from .counters import json_array

_READ_AT_ONCE = 50_000
_DELETED_AT_ONCE = 1_000


def read_used_series(transaction: Transaction, after: int) -> tuple[set[int], int | None]:
    """Return the series of the next 50,000 readings above number ``after``, and the last number (None: no more)."""
    rows = transaction.rows(
        """SELECT series, max(sequence) FROM (
             SELECT series, sequence FROM outbox_reading WHERE sequence > ? ORDER BY sequence LIMIT ?)
           GROUP BY series""",
        after,
        _READ_AT_ONCE,
    )
    return {series for series, _ in rows}, max((last for _, last in rows), default=None)


def delete_unused_series(transaction: Transaction, used: Collection[int], until: int) -> int:
    """Delete at most 1,000 series not in ``used`` nor used by a reading above ``until``; return how many."""
    # Readings stored since the scan have numbers above ``until``; their series are in use too.
    return transaction.run(
        """DELETE FROM outbox_series WHERE number IN (
             SELECT number FROM outbox_series WHERE number NOT IN (SELECT value FROM json_each(?))
               AND number NOT IN (SELECT series FROM outbox_reading WHERE sequence > ?) LIMIT ?)""",
        json_array([*used]),
        until,
        _DELETED_AT_ONCE,
    )
