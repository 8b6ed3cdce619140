"""How SQLite goes about what a change does to the tables of the gateway."""

from typing import Any

import apsw

from process_cosmos_gateway.store import Transaction, schema


class Explained(Transaction):
    """A transaction on tables in memory.

    ``ran``: its statements in order; ``plans``: the steps SQLite takes for each of them.
    """

    def __init__(self) -> None:
        """Make the tables of the newest schema in memory."""
        self._tables = apsw.Connection(":memory:")
        self._tables.execute(schema.SCHEMA.read_text("utf-8"))
        self.ran: list[str] = []
        self.plans: dict[str, list[str]] = {}
        super().__init__(self._tables)

    def rows(self, sql: str, *values: Any, **names: Any) -> list[tuple[Any, ...]]:  # noqa: ANN401 - as its base
        """Note the steps, then read the rows."""
        self._explain(sql, names or values)
        return super().rows(sql, *values, **names)

    def run(self, sql: str, *values: Any, **names: Any) -> int:  # noqa: ANN401
        """Note the steps, then make the change."""
        self._explain(sql, names or values)
        return super().run(sql, *values, **names)

    def _explain(self, sql: str, values: Any) -> None:  # noqa: ANN401 - whatever SQLite stores
        self.ran.append(sql)
        if sql not in self.plans and not sql.startswith(("SAVEPOINT", "RELEASE", "ROLLBACK")):
            self.plans[sql] = [str(row[3]) for row in self._tables.execute("EXPLAIN QUERY PLAN " + sql, values)]
