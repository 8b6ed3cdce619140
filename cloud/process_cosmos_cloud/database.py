"""The endpoint's SQLite file: one thread of the server writes it, other processes may read and add."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from importlib.resources import files
from pathlib import Path

import apsw

SCHEMA_VERSION = 2
PATIENCE_MS = 10_000
"""How long a process waits for another one's transaction."""

Connection = apsw.Connection
"""What the modules with SQL of their own are given; none but this one makes it."""


class DatabaseError(Exception):
    """The file cannot serve: it is of a newer version, damaged, or the disk is full. Nothing of the change is on it."""


def open_database(path: Path) -> Connection:
    """Open the file, make it where there is none, and return a connection whose commits survive a power cut."""
    connection = apsw.Connection(str(path))
    connection.set_busy_timeout(PATIENCE_MS)
    connection.transaction_mode = "IMMEDIATE"
    connection.pragma("journal_mode", "wal")
    connection.pragma("synchronous", "full")
    connection.pragma("wal_autocheckpoint", 4000)
    with connection:
        version = connection.pragma("user_version")
        if version == 0:
            connection.execute(files(__package__).joinpath("schema.sql").read_text("utf-8"))
            connection.pragma("user_version", SCHEMA_VERSION)
        elif version != SCHEMA_VERSION:
            raise DatabaseError(f"{path} has schema {version}; this version knows {SCHEMA_VERSION}")
    return connection


class Database:
    """Does everything on one thread: parsing and SQL stay off the event loop, and nothing waits for a lock."""

    def __init__(self, path: Path) -> None:
        """Name the file; ``start`` opens it."""
        self._path = path
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="database")

    async def start(self) -> None:
        """Open the file, or raise ``DatabaseError``."""
        self._connection = await self._on_thread(lambda: open_database(self._path))

    async def write[T](self, change: Callable[[Connection], T]) -> T:
        """Run ``change`` in a transaction; return when it survives a power cut. An exception undoes it."""

        def commit() -> T:
            with self._connection:
                result = change(self._connection)
            return result  # noqa: RET504 - mypy: leaving a connection's block might swallow an error

        return await self._on_thread(commit)

    async def read[T](self, question: Callable[[Connection], T]) -> T:
        """Run ``question``, which changes nothing."""
        return await self._on_thread(lambda: question(self._connection))

    async def close(self) -> None:
        """Close the file, after what is under way."""
        await self._on_thread(self._connection.close)
        self._thread.shutdown()

    async def _on_thread[T](self, work: Callable[[], T]) -> T:
        def run() -> T:
            try:
                return work()
            except apsw.Error as error:
                raise DatabaseError(f"the database failed: {error}") from error

        return await asyncio.get_running_loop().run_in_executor(self._thread, run)
