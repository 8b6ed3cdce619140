"""Records SQLite's query plans for the statements of a transaction."""

from typing import Any

import apsw

from process_cosmos_gateway.store import Transaction, schema


class Explained(Transaction):
    """A transaction on an in-memory database.

    ``ran``: its statements in order; ``plans``: the query plan of each statement.
    """

    def __init__(self) -> None:
        """Create the tables of the newest schema in memory."""
        self._tables = apsw.Connection(":memory:")
        self._tables.execute(schema.SCHEMA.read_text("utf-8"))
        self.ran: list[str] = []
        self.plans: dict[str, list[str]] = {}
        super().__init__(self._tables)

    def rows(self, sql: str, *values: Any, **names: Any) -> list[tuple[Any, ...]]:  # noqa: ANN401 - as its base
        """Record the query plan, then read the rows."""
        self._explain(sql, names or values)
        return super().rows(sql, *values, **names)

    def run(self, sql: str, *values: Any, **names: Any) -> int:  # noqa: ANN401
        """Record the query plan, then run the statement."""
        self._explain(sql, names or values)
        return super().run(sql, *values, **names)

    def _explain(self, sql: str, values: Any) -> None:  # noqa: ANN401 - whatever SQLite stores
        self.ran.append(sql)
        if sql not in self.plans and not sql.startswith(("SAVEPOINT", "RELEASE", "ROLLBACK")):
            self.plans[sql] = [str(row[3]) for row in self._tables.execute("EXPLAIN QUERY PLAN " + sql, values)]
