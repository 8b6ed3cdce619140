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

    def run_many(self, sql: str, rows: Iterable[Row]) -> int:
        """Run one INSERT, UPDATE or DELETE for each of ``rows``; return how many rows it changed in all."""
        return sum(self.run(sql, *row) for row in rows)

    def after_commit(self, callback: Callable[[], None]) -> None:
        """Call ``callback`` in the event loop once this is on disk; not at all if it never is."""
        self.callbacks.append(callback)
