"""What a change or a question may do with the database."""

from collections.abc import Callable, Iterable, Sequence
from itertools import chain
from typing import Any

import apsw

type Row = tuple[Any, ...]

_AT_ONCE = (64, 16, 4, 1)
"""Rows to a statement: few sizes, so that each is prepared once."""


class Transaction:
    """The inside of one change or question; valid only within the function it is given to."""

    def __init__(self, connection: apsw.Connection) -> None:
        """Speak through ``connection``, in the thread that owns it."""
        self._connection = connection
        self.callbacks: list[Callable[[], None]] = []

    def rows(self, sql: str, *values: Any, **names: Any) -> list[Row]:  # noqa: ANN401 - whatever SQLite stores
        """Return all rows ``sql`` gives; ``values`` for its ``?``, or ``names`` for its ``:name``."""
        try:
            return list(self._connection.execute(sql, names or values))
        except UnicodeDecodeError as error:
            raise apsw.CorruptError(f"a text is not what was written: {error}") from error

    def run(self, sql: str, *values: Any, **names: Any) -> int:  # noqa: ANN401
        """Run one INSERT, UPDATE or DELETE; return how many rows it changed itself, triggers aside."""
        self._connection.execute(sql, names or values)
        return self._connection.changes()

    def insert(self, sql: str, rows: Sequence[Row]) -> int:
        """Run ``sql``, an INSERT that ends before its values, for all ``rows``; return how many it changed."""
        begin = changed = 0
        row = f"({', '.join('?' * len(rows[0]))})" if rows else ""
        for size in _AT_ONCE:
            while len(rows) - begin >= size:
                some = rows[begin : begin + size]
                changed += self.run(sql + ", ".join([row] * size), *chain.from_iterable(some))
                begin += size
        return changed

    def last_row(self) -> int:
        """Return the number of the row inserted last."""
        return self._connection.last_insert_rowid()

    def run_many(self, sql: str, rows: Iterable[Row]) -> int:
        """Run one INSERT, UPDATE or DELETE for each of ``rows``; return how many rows it changed in all."""
        return sum(self.run(sql, *row) for row in rows)

    def after_commit(self, callback: Callable[[], None]) -> None:
        """Call ``callback`` in the event loop once this is on disk; not at all if it never is."""
        self.callbacks.append(callback)
