"""The names of the properties of which readings wait, or have waited: forgotten when none does any more."""

from collections.abc import Collection

from process_cosmos_gateway.store import Transaction

from .counters import array

_READ_AT_ONCE = 50_000
_FORGOTTEN_AT_ONCE = 1_000


def used(transaction: Transaction, after: int) -> tuple[set[int], int | None]:
    """Return the series of some of the readings above number ``after``, and where to go on; None: these are all."""
    rows = transaction.rows(
        """SELECT series, max(sequence) FROM (
             SELECT series, sequence FROM outbox_reading WHERE sequence > ? ORDER BY sequence LIMIT ?)
           GROUP BY series""",
        after,
        _READ_AT_ONCE,
    )
    return {series for series, _ in rows}, max((last for _, last in rows), default=None)


def forget_unused(transaction: Transaction, used: Collection[int], until: int) -> int:
    """Forget some series that are not ``used`` up to reading ``until``, nor after it; return how many."""
    return transaction.run(
        """DELETE FROM outbox_series WHERE number IN (
             SELECT number FROM outbox_series WHERE number NOT IN (SELECT value FROM json_each(?))
               AND number NOT IN (SELECT series FROM outbox_reading WHERE sequence > ?) LIMIT ?)""",
        array([*used]),
        until,
        _FORGOTTEN_AT_ONCE,
    )
