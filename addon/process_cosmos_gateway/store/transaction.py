"""What a change or a question may do with the database."""

from collections.abc import Callable, Iterable
from typing import Any

import apsw

type Row = tuple[Any, ...]


class Transaction:
    """The inside of one change or question; valid only within the function it is given to."""

    def __init__(self, connection: apsw.Connection) -> None:
        """Speak through ``connection``, in the thread that owns it."""
        self._connection = connection
        self.callbacks: list[Callable[[], None]] = []

    def rows(self, sql: str, *values: Any) -> list[Row]:  # noqa: ANN401 - whatever SQLite stores
        """Return all rows ``sql`` gives."""
        return list(self._connection.execute(sql, values))

    def run(self, sql: str, *values: Any) -> int:  # noqa: ANN401
        """Run a statement that writes; return how many rows it changed."""
        return self.run_many(sql, (values,))

    def run_many(self, sql: str, rows: Iterable[Row]) -> int:
        """Run a statement once for each of ``rows``; return how many rows it changed in all."""
        before = self._connection.total_changes()
        self._connection.executemany(sql, rows)
        return self._connection.total_changes() - before

    def after_commit(self, callback: Callable[[], None]) -> None:
        """Call ``callback`` in the event loop once this is on disk; not at all if it never is."""
        self.callbacks.append(callback)
