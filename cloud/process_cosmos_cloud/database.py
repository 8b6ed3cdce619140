"""The endpoint's SQLite file: one thread of the server uses it; command-line processes read and add rows."""

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from importlib.resources import files
from pathlib import Path

import apsw

from .errors import CloudError
from .turns import RoundRobin

SCHEMA_VERSION = 1

OWN = ""
"""The queue of the endpoint's own work."""

PATIENCE_MS = 10_000
"""How long a process waits for the transaction of another process."""

Connection = apsw.Connection
"""The connection passed to the modules that run SQL; only this module opens one."""


SqlError = apsw.Error
"""The base class of the errors that SQL statements raise."""


class DatabaseError(CloudError):
    """The file cannot be used: another schema version, damage, or a full disk. The change is not on disk."""


def open_database(path: Path) -> Connection:
    """Open or create the file; return a connection whose commits survive a power failure. Raises ``DatabaseError``."""
    connection = apsw.Connection(str(path))
    connection.set_busy_timeout(PATIENCE_MS)
    # A transaction that begins with a read could not write after another process has committed meanwhile.
    connection.transaction_mode = "IMMEDIATE"
    connection.pragma("journal_mode", "wal")
    connection.pragma("synchronous", "full")
    # Four times SQLite's default, because commits wait for the checkpoints while a site drains its queue.
    connection.pragma("wal_autocheckpoint", 4000)
    with connection:
        version = connection.pragma("user_version")
        if version == 0:
            connection.execute(files(__package__).joinpath("schema.sql").read_text("utf-8"))
            connection.pragma("user_version", SCHEMA_VERSION)
        elif version != SCHEMA_VERSION:
            raise DatabaseError(
                f"{path} has schema {version}, but this version supports {SCHEMA_VERSION}: update process-cosmos-cloud"
            )
    return connection


class Database:
    """Runs SQL and parsing on one thread, round-robin between sites, to keep the event loop free without locks."""

    def __init__(self, path: Path) -> None:
        """Use the file at ``path``; ``start`` opens it."""
        self._path = path
        self._open: Connection | None = None
        self._wal = path.with_name(f"{path.name}-wal")
        self._files: dict[Path, tuple[int, int] | None] = {}
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="database")
        self._work = RoundRobin(self._thread)

    async def start(self) -> None:
        """Open the file, or raise ``DatabaseError``."""
        await self._on_thread(lambda: self._connection)

    async def write[T](self, change: Callable[[Connection], T], queue: str = OWN) -> T:
        """Run ``change`` in a transaction; return once the commit survives a power failure. An exception undoes it.

        ``queue``: the site, or before its admission its certificate's serial number or network address; the queues are
        served round-robin.

        Raises ``DatabaseError``, also once the file was deleted or replaced, as SQLite's writes to it would be lost.
        """

        def commit() -> T:
            connection = self._connection
            self._check_files()
            try:
                with connection:
                    result = change(connection)
            except apsw.IOError, apsw.FullError, apsw.CorruptError:
                # After a failed fsync the kernel may have dropped the pages, so this handle must not be used again.
                self._open = None
                connection.close(True)
                raise
            # Again after the commit: one that went into a deleted file must not be confirmed.
            self._check_files()
            return result

        return await self._on_thread(commit, queue)

    async def read[T](self, query: Callable[[Connection], T], queue: str = OWN) -> T:
        """Run ``query``, which changes nothing; ``queue``: see ``write``."""
        return await self._on_thread(lambda: query(self._connection), queue)

    async def prepare[T](self, work: Callable[[], T], queue: str) -> T:
        """Run work that precedes a transaction off the event loop; ``queue``: see ``write``.

        A separate thread would only compete with this one for the interpreter.
        """
        return await self._work.run(queue, work)

    async def close(self) -> None:
        """Close the file after the running work."""
        if self._open is not None:
            await self._on_thread(self._open.close)
        self._thread.shutdown()

    @property
    def _connection(self) -> Connection:
        if self._open is None:
            # Closing the failed handle has deleted its log.
            self._files.pop(self._wal, None)
            self._check_files()
            self._open = open_database(self._path)
            self._files = {file: _identity(file) for file in (self._path, self._wal)}
        return self._open

    def _check_files(self) -> None:
        for file, known in self._files.items():
            if _identity(file) != known:
                raise DatabaseError(
                    f"{file} was deleted or replaced while in use. Nothing is accepted until the endpoint is restarted."
                    f" Before that, copy the open files from /proc/{os.getpid()}/fd."
                )

    async def _on_thread[T](self, work: Callable[[], T], queue: str = OWN) -> T:
        def run() -> T:
            try:
                return work()
            except (apsw.Error, OSError) as error:
                raise DatabaseError(f"the database failed: {error}") from error

        return await self._work.run(queue, run)


def _identity(file: Path) -> tuple[int, int] | None:
    try:
        found = file.stat()
    except FileNotFoundError:
        return None
    return found.st_dev, found.st_ino
