"""The endpoint's SQLite file: one thread of the server writes it, other processes may read and add."""

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from importlib.resources import files
from pathlib import Path

import apsw

from .turns import Turns

SCHEMA_VERSION = 1

OWN = ""
"""Whose turn it is when the endpoint itself has something to do."""

PATIENCE_MS = 10_000
"""How long a process waits for another one's transaction."""

Connection = apsw.Connection
"""What the modules with SQL of their own are given; none but this one makes it."""


SqlError = apsw.Error
"""What SQL raises there."""


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
    """Does everything on one thread, sites in turn: parsing and SQL stay off the event loop, without locks."""

    def __init__(self, path: Path) -> None:
        """Name the file; ``start`` opens it."""
        self._path = path
        self._open: Connection | None = None
        self._log = path.with_name(f"{path.name}-wal")
        self._files: dict[Path, tuple[int, int] | None] = {}
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="database")
        self._turns = Turns(self._thread)

    async def start(self) -> None:
        """Open the file, or raise ``DatabaseError``."""
        await self._on_thread(lambda: self._connection)

    async def write[T](self, change: Callable[[Connection], T], whose: str = OWN) -> T:
        """Run ``change`` in a transaction; return when it survives a power cut. An exception undoes it.

        ``whose``: the site it is for, or the serial number or network address of one that is not admitted yet; they
        take turns.

        Raises ``DatabaseError`` too once the file was deleted or replaced: what SQLite goes on to write there is lost.
        """

        def commit() -> T:
            connection = self._connection
            self._check_files()
            try:
                with connection:
                    result = change(connection)
            except apsw.IOError, apsw.FullError, apsw.CorruptError:
                # After a failed fsync the kernel may have dropped the pages: this handle must not try again.
                self._open = None
                connection.close(True)
                raise
            self._check_files()
            return result

        return await self._on_thread(commit, whose)

    async def read[T](self, question: Callable[[Connection], T], whose: str = OWN) -> T:
        """Run ``question``, which changes nothing, in its turn (see ``write``)."""
        return await self._on_thread(lambda: question(self._connection), whose)

    async def prepare[T](self, work: Callable[[], T], whose: str) -> T:
        """Run work that comes before a transaction, off the event loop, in its turn (see ``write``).

        A thread of its own would only compete with this one for the interpreter.
        """
        return await self._turns.run(whose, work)

    async def close(self) -> None:
        """Close the file, after what is under way."""
        if self._open is not None:
            await self._on_thread(self._open.close)
        self._thread.shutdown()

    @property
    def _connection(self) -> Connection:
        if self._open is None:
            # Closing the handle that failed has removed its log.
            self._files.pop(self._log, None)
            self._check_files()
            self._open = open_database(self._path)
            self._files = {file: _identity(file) for file in (self._path, self._log)}
        return self._open

    def _check_files(self) -> None:
        for file, known in self._files.items():
            if _identity(file) != known:
                raise DatabaseError(
                    f"{file} was deleted or replaced while in use. Nothing is accepted until the endpoint is restarted;"
                    f" before that, copy what it still has open from /proc/{os.getpid()}/fd."
                )

    async def _on_thread[T](self, work: Callable[[], T], whose: str = OWN) -> T:
        def run() -> T:
            try:
                return work()
            except (apsw.Error, OSError) as error:
                raise DatabaseError(f"the database failed: {error}") from error

        return await self._turns.run(whose, run)


def _identity(file: Path) -> tuple[int, int] | None:
    try:
        found = file.stat()
    except FileNotFoundError:
        return None
    return found.st_dev, found.st_ino
