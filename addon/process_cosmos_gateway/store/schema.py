"""How a database comes into being, is opened, and follows the schema."""

import os
from collections.abc import Callable, Sequence
from pathlib import Path

import apsw

from process_cosmos_gateway.contract.identifiers import Ulid

from .errors import SchemaTooNewError, StoreDamagedError

SCHEMA = Path(__file__).with_name("schema.sql")

MIGRATIONS: tuple[str, ...] = ()
"""SQL that leads from version n + 1 to n + 2, at index n; a new database begins with ``schema.sql`` at once."""

_BUSY_MS = 5000
_CHECKPOINT_PAGES = 4000


def prepare(path: Path, ulid_fn: Callable[[], Ulid], vfs: str | None, migrations: Sequence[str] = MIGRATIONS) -> None:
    """Make the database at ``path`` if there is none, else bring it to the newest version.

    Raises ``SchemaTooNewError`` and ``StoreDamagedError``, both without a change to the database.
    """
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    path.parent.chmod(0o700)
    if not path.exists():
        _create(path, ulid_fn, vfs, 1 + len(migrations))
    elif not path.stat().st_size:
        # A new database appears whole, by a rename: SQLite would take an empty file for a new one and forget the site.
        raise StoreDamagedError(f"{path.name} is empty")
    _migrate(path, vfs, migrations)


def connect(path: Path, vfs: str | None, *, read_only: bool) -> apsw.Connection:
    """Open the database for one thread: WAL, an fsync at each commit."""
    connection = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READWRITE, vfs=vfs)
    connection.set_busy_timeout(_BUSY_MS)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute(f"PRAGMA wal_autocheckpoint = {_CHECKPOINT_PAGES}")
    if read_only:
        connection.execute("PRAGMA query_only = 1")
    return connection


def _create(path: Path, ulid_fn: Callable[[], Ulid], vfs: str | None, version: int) -> None:
    fresh = path.with_name(path.name + ".new")
    fresh.unlink(missing_ok=True)
    os.close(os.open(fresh, os.O_CREAT | os.O_EXCL, 0o600))
    connection = apsw.Connection(str(fresh), vfs=vfs)
    try:
        connection.execute("PRAGMA synchronous = FULL")
        with connection:
            connection.execute(SCHEMA.read_text("utf-8"))
            connection.executemany(
                "INSERT INTO meta VALUES (?, ?)",
                [("schema", version), ("site", ulid_fn()), ("epoch", ulid_fn())],
            )
    finally:
        connection.close()
    fresh.rename(path)
    _sync_folder(path.parent)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _migrate(path: Path, vfs: str | None, migrations: Sequence[str]) -> None:
    path.chmod(0o600)
    connection = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READWRITE, vfs=vfs)
    try:
        # What a newer version left in the write-ahead log stays there too.
        connection.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1)
        connection.set_busy_timeout(_BUSY_MS)
        version = _version(connection)
        newest = 1 + len(migrations)
        if version > newest:
            raise SchemaTooNewError(f"the database has schema {version}, this gateway knows up to {newest}: update it")
        connection.execute("PRAGMA synchronous = FULL")
        for step in range(version, newest):
            with connection:
                connection.execute(migrations[step - 1])
                connection.execute("UPDATE meta SET value = ? WHERE key = 'schema'", (step + 1,))
    except (apsw.NotADBError, apsw.CorruptError) as error:
        raise StoreDamagedError(f"{path.name} cannot be read: {error}") from error
    finally:
        connection.close()


def _version(connection: apsw.Connection) -> int:
    try:
        version = connection.execute("SELECT value FROM meta WHERE key = 'schema'").get
    except apsw.SQLError as error:
        raise StoreDamagedError("the database has no version") from error
    if not isinstance(version, int):
        raise StoreDamagedError("the database has no version")
    return version
