"""The limit: the same rows into the same tables by ``executemany`` alone, each commit with its fsync."""

import time
from collections.abc import Iterator, Sequence
from contextlib import closing
from itertools import batched
from pathlib import Path

import apsw

_CHECKPOINT_PAGES = 4000


type Row = tuple[str | int | float | bytes | None, ...]


class Rows:
    """Rows like the first one of a table, with other ids: whatever columns it has."""

    def __init__(self, connection: apsw.Connection, table: str, changed: Sequence[str]) -> None:
        """``changed``: the columns that get a value of their own; an integer key is given by SQLite."""
        columns = list(connection.execute(f"PRAGMA table_info({table})"))
        numbered = [name for _, name, kind, _, _, key in columns if key == 1 and kind == "INTEGER"]
        names = [column[1] for column in columns if column[1] not in numbered]
        self._values = list(connection.execute(f"SELECT {', '.join(names)} FROM {table} LIMIT 1"))[0]  # noqa: S608, RUF015
        self._places = [names.index(name) for name in changed]
        self.insert = f"INSERT INTO {table} ({', '.join(names)}) VALUES ({', '.join('?' * len(names))})"  # noqa: S608

    def like(self, *changes: str | int) -> Row:
        """Return a row with these values in the changed columns."""
        values = list(self._values)
        for place, value in zip(self._places, changes, strict=True):
            values[place] = value
        return tuple(values)


def connect(path: Path) -> apsw.Connection:
    """Open a database as gateway and cloud endpoint do."""
    connection = apsw.Connection(str(path))
    connection.execute(
        f"PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA wal_autocheckpoint = {_CHECKPOINT_PAGES}"
    )
    return connection


def queue_rate(path: Path, table: str, ids: Sequence[str], at_once: int = 100) -> float:
    """Return how many events a second go into a queue and the ids beside it, ``at_once`` to a commit."""
    with closing(connect(path)) as connection:
        queue, known = Rows(connection, table, ["id"]), Rows(connection, "outbox_id", ["id"])
        begun = time.perf_counter()
        for some in batched(ids, at_once, strict=False):
            with connection:
                connection.executemany(queue.insert, [queue.like(each) for each in some])
                connection.executemany(known.insert, [known.like(each) for each in some])
        return len(ids) / (time.perf_counter() - begun)


def arrivals_rate(path: Path, ids: Sequence[str], at_once: int = 500) -> float:
    """Return how many events a second go into the cloud endpoint's two tables."""
    with closing(connect(path)) as connection:
        log, kept = Rows(connection, "arrival", ["id"]), Rows(connection, "event", ["id", "arrival"])
        [(last,)] = connection.execute("SELECT max(sequence) FROM arrival")
        numbers = iter(range(last + 1, last + 1 + len(ids)))
        begun = time.perf_counter()
        for some in batched(ids, at_once, strict=False):
            with connection:
                connection.executemany(log.insert, [log.like(each) for each in some])
                connection.executemany(kept.insert, [kept.like(each, next(numbers)) for each in some])
        return len(ids) / (time.perf_counter() - begun)


def table_bytes(path: Path) -> dict[str, int]:
    """Return the bytes of pages each table takes, its indexes included."""
    with closing(connect(path)) as connection:
        return dict(_sizes(connection))


def _sizes(connection: apsw.Connection) -> Iterator[tuple[str, int]]:
    found: dict[str, int] = {}
    statement = "SELECT tbl_name, sum(pgsize) FROM dbstat JOIN sqlite_schema USING (name) GROUP BY dbstat.name"
    for table, size in connection.execute(statement):
        found[table] = found.get(table, 0) + size
    yield from found.items()
