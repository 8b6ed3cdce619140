"""The database operations available to a write or a read."""

from collections.abc import Callable, Iterable, Sequence
from itertools import chain
from typing import Any

import apsw

type Row = tuple[Any, ...]

_AT_ONCE = (64, 16, 4, 1)
"""Rows per INSERT statement: only these sizes, so that each statement is prepared once."""


class Transaction:
    """One transaction; valid only within the function it is passed to."""

    def __init__(self, connection: apsw.Connection) -> None:
        """Use ``connection``, in the thread that owns it."""
        self._connection = connection
        self.callbacks: list[Callable[[], None]] = []

    def rows(self, sql: str, *values: Any, **names: Any) -> list[Row]:  # noqa: ANN401 - whatever SQLite stores
        """Run a query and return its rows; ``values`` bind its ``?``, or ``names`` its ``:name``."""
        try:
            return list(self._connection.execute(sql, names or values))
        except UnicodeDecodeError as error:
            raise apsw.CorruptError(f"a text is not valid UTF-8: {error}") from error

    def run(self, sql: str, *values: Any, **names: Any) -> int:  # noqa: ANN401
        """Run one INSERT, UPDATE or DELETE; return how many rows it changed, without those changed by triggers."""
        self._connection.execute(sql, names or values)
        return self._connection.changes()

    def insert(self, sql: str, rows: Sequence[Row]) -> int:
        """Insert all ``rows``; ``sql`` is an INSERT that ends with VALUES. Return how many rows were inserted."""
        begin = changed = 0
        row = f"({', '.join('?' * len(rows[0]))})" if rows else ""
        for size in _AT_ONCE:
            while len(rows) - begin >= size:
                some = rows[begin : begin + size]
                changed += self.run(sql + ", ".join([row] * size), *chain.from_iterable(some))
                begin += size
        return changed

    def last_row(self) -> int:
        """Return the rowid of the last inserted row."""
        return self._connection.last_insert_rowid()

    def run_many(self, sql: str, rows: Iterable[Row]) -> int:
        """Run one INSERT, UPDATE or DELETE for each of ``rows``; return how many rows were changed in total."""
        return sum(self.run(sql, *row) for row in rows)

    def after_commit(self, callback: Callable[[], None]) -> None:
        """Call ``callback`` in the event loop after the commit; never if the transaction fails."""
        self.callbacks.append(callback)
