"""Creates, opens, migrates and checkpoints the database."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import closing, suppress
from pathlib import Path

import apsw

from process_cosmos_gateway.contract.identifiers import Ulid
from process_cosmos_gateway.private_files import is_there, make_private, sync_folder

from .errors import SchemaTooNewError, StoreDamagedError

type UlidFn = Callable[[], Ulid]

SCHEMA = Path(__file__).with_name("schema.sql")
_FOLDER = Path(__file__).with_name("migrations")


def _read_migrations() -> tuple[str, ...]:
    numbers = sorted(int(file.stem) for file in _FOLDER.glob("*.sql"))
    return tuple((_FOLDER / f"{number}.sql").read_text("utf-8") for number in numbers)


MIGRATIONS = _read_migrations()
"""SQL scripts; the one at index n leads from version n + 1 to n + 2. A new database begins with ``schema.sql``."""

NEWEST = 1 + len(MIGRATIONS)
"""The version of ``schema.sql``."""

FILE = "gateway.sqlite"

_BUSY_MS = 5000
_INCREMENTAL = 2
PAGE_BYTES = 4096


def connect(path: Path, vfs: str | None, *, read_only: bool) -> apsw.Connection:
    """Open the database for one thread, with WAL and an fsync per commit. Closing does not checkpoint the log."""
    connection = connect_untouched(path, vfs)
    connection.execute("PRAGMA journal_mode = WAL")
    # With NORMAL the log is synced only at checkpoints, and a power cut undoes commits that were acknowledged.
    connection.execute("PRAGMA synchronous = FULL")
    if read_only:
        connection.execute("PRAGMA query_only = 1")
    return connection


def connect_untouched(path: Path, vfs: str | None) -> apsw.Connection:
    """Open the database so that closing does not checkpoint its log: it may be damaged, or of a newer version."""
    connection = _open(path, vfs)
    connection.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1)
    return connection


def create(path: Path, vfs: str | None, facts: Mapping[str, int | str], sql: str | None = None) -> None:
    """Create a database at ``path``, replacing any file there; ``facts``: the rows of ``meta``.

    ``sql``: the statements that create its tables, if not those of ``schema.sql``. Nothing else may use the file yet.
    """
    path.unlink(missing_ok=True)
    make_private(path)
    with closing(apsw.Connection(str(path), vfs=vfs)) as connection:
        # Has an effect only before the first table exists.
        connection.execute(f"PRAGMA auto_vacuum = {_INCREMENTAL}")
        connection.execute("PRAGMA synchronous = FULL")
        with connection:
            connection.execute(SCHEMA.read_text("utf-8") if sql is None else sql)
            connection.executemany("INSERT INTO meta VALUES (?, ?)", list(facts.items()))


def refuse_newer(path: Path, vfs: str | None, newest: int = NEWEST) -> None:
    """Raise ``SchemaTooNewError`` if a newer gateway wrote the database at ``path``, without changing the file.

    A missing or unreadable database is accepted here; the integrity check handles it.
    """
    # SQLite would delete the log of an empty file.
    if not is_there(path) or not path.stat().st_size:
        return
    found = 0
    with closing(connect_untouched(path, vfs)) as connection, suppress(apsw.Error, StoreDamagedError):
        found = version(connection)
    if found > newest:
        raise SchemaTooNewError(
            f"{path} was written by a newer version of the Process Cosmos app (schema {found}; this version supports"
            f" up to {newest}) and is left unchanged. Update the app, or restore a backup made by this version."
        )


def migrate(path: Path, vfs: str | None, migrations: Sequence[str] = MIGRATIONS) -> None:
    """Migrate the database to the newest version, each step in one transaction.

    Raises ``StoreDamagedError`` if it cannot be read; completed steps are kept.
    """
    path.chmod(0o600)
    try:
        with closing(connect_untouched(path, vfs)) as connection:
            found = version(connection)
            connection.execute("PRAGMA synchronous = FULL")
            for step in range(found, 1 + len(migrations)):
                with connection:
                    connection.execute(migrations[step - 1])
                    connection.execute("UPDATE meta SET value = ? WHERE key = 'schema'", (step + 1,))
    except (apsw.NotADBError, apsw.CorruptError) as error:
        raise StoreDamagedError(f"{path.name} cannot be read: {error}") from error


def version(connection: apsw.Connection) -> int:
    """Return the schema version; raise ``StoreDamagedError`` if the database has none."""
    try:
        found = connection.execute("SELECT value FROM meta WHERE key = 'schema'").get
    except apsw.SQLError as error:
        raise StoreDamagedError("the database has no version") from error
    if not isinstance(found, int):
        raise StoreDamagedError("the database has no version")
    return found


def checkpoint(path: Path, vfs: str | None, *, cut: bool, remove: bool = False) -> None:
    """Copy the log into the database without waiting for readers.

    ``cut``: also truncate the log and the database file, if no reader uses the log. ``remove``: also delete the log,
    if no other connection is open.
    """
    # A long read may hold the log; the next checkpoint copies it.
    with closing(_open(path, vfs) if remove else connect_untouched(path, vfs)) as connection, suppress(apsw.BusyError):
        connection.set_busy_timeout(0)
        # A connection opens the log only with its first read.
        connection.pragma("schema_version")
        connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_PASSIVE)
        if cut:
            connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_TRUNCATE)


def replace(draft: Path, path: Path) -> None:
    """Move the complete database ``draft`` to ``path``, where there must be none."""
    # SQLite would apply the log of a removed database to this one.
    for rest in ("-wal", "-shm"):
        path.with_name(path.name + rest).unlink(missing_ok=True)
    draft.rename(path)
    sync_folder(path.parent)


def _open(path: Path, vfs: str | None) -> apsw.Connection:
    connection = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READWRITE, vfs=vfs)
    connection.set_busy_timeout(_BUSY_MS)
    return connection
