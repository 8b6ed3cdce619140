"""How a database comes into being, is opened, and follows the schema."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import apsw

from process_cosmos_gateway.contract.identifiers import Ulid
from process_cosmos_gateway.private_files import is_there, make_private, sync_folder

from .errors import SchemaTooNewError, StoreDamagedError

type UlidFn = Callable[[], Ulid]

SCHEMA = Path(__file__).with_name("schema.sql")
_STEPS = Path(__file__).with_name("migrations")


def _read_migrations() -> tuple[str, ...]:
    numbers = sorted(int(file.stem) for file in _STEPS.glob("*.sql"))
    return tuple((_STEPS / f"{number}.sql").read_text("utf-8") for number in numbers)


MIGRATIONS = _read_migrations()
"""SQL that leads from version n + 1 to n + 2, at index n; a new database begins with ``schema.sql`` at once."""

NEWEST = 1 + len(MIGRATIONS)

FILE = "gateway.sqlite"

_BUSY_MS = 5000
_INCREMENTAL = 2
PAGE_BYTES = 4096


def connect(path: Path, vfs: str | None, *, read_only: bool) -> apsw.Connection:
    """Open the database for one thread: WAL, an fsync at each commit. Closing leaves the log as it is."""
    connection = connect_untouched(path, vfs)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")
    if read_only:
        connection.execute("PRAGMA query_only = 1")
    return connection


def connect_untouched(path: Path, vfs: str | None) -> apsw.Connection:
    """Open the database so that closing leaves its log as it is: it may be damaged, or a newer version's."""
    connection = _open(path, vfs)
    connection.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1)
    return connection


def create(path: Path, vfs: str | None, facts: Mapping[str, int | str], sql: str | None = None) -> None:
    """Make a database at ``path``, which nobody else looks at yet, with what it knows of itself: schema, site, epoch.

    ``sql``: its tables, if not those of ``schema.sql``.
    """
    path.unlink(missing_ok=True)
    make_private(path)
    connection = apsw.Connection(str(path), vfs=vfs)
    try:
        connection.execute(f"PRAGMA auto_vacuum = {_INCREMENTAL}")
        connection.execute("PRAGMA synchronous = FULL")
        with connection:
            connection.execute(SCHEMA.read_text("utf-8") if sql is None else sql)
            connection.executemany("INSERT INTO meta VALUES (?, ?)", list(facts.items()))
    finally:
        connection.close()


def refuse_newer(path: Path, vfs: str | None, newest: int = NEWEST) -> None:
    """Raise ``SchemaTooNewError`` if a newer gateway wrote the database at ``path``, which stays as it is.

    What cannot be read is for others to judge.
    """
    # SQLite would remove the log of an empty file.
    if not is_there(path) or not path.stat().st_size:
        return
    connection = connect_untouched(path, vfs)
    try:
        found = version(connection)
    except apsw.Error, StoreDamagedError:
        return
    finally:
        connection.close()
    if found > newest:
        raise SchemaTooNewError(
            f"{path} was written by a newer version of the Process Cosmos app (schema {found}, this one knows {newest})"
            " and is left as it is. Update the app, or restore a backup this version has made."
        )


def migrate(path: Path, vfs: str | None, migrations: Sequence[str] = MIGRATIONS) -> None:
    """Bring the database to the newest version, each step in one transaction.

    Raises ``StoreDamagedError`` without a change to the database.
    """
    path.chmod(0o600)
    connection = connect_untouched(path, vfs)
    try:
        found = version(connection)
        connection.execute("PRAGMA synchronous = FULL")
        for step in range(found, 1 + len(migrations)):
            with connection:
                connection.execute(migrations[step - 1])
                connection.execute("UPDATE meta SET value = ? WHERE key = 'schema'", (step + 1,))
    except (apsw.NotADBError, apsw.CorruptError) as error:
        raise StoreDamagedError(f"{path.name} cannot be read: {error}") from error
    finally:
        connection.close()


def version(connection: apsw.Connection) -> int:
    """Return the schema's version; raise ``StoreDamagedError`` if the database has none."""
    try:
        found = connection.execute("SELECT value FROM meta WHERE key = 'schema'").get
    except apsw.SQLError as error:
        raise StoreDamagedError("the database has no version") from error
    if not isinstance(found, int):
        raise StoreDamagedError("the database has no version")
    return found


def checkpoint(path: Path, vfs: str | None, *, cut: bool, remove: bool = False) -> None:
    """Copy the log into the database; waits for nobody. ``cut``: cut both to what they hold, if nobody else looks.

    ``remove``: remove the log too, once nobody else has the database open.
    """
    connection = _open(path, vfs) if remove else connect_untouched(path, vfs)
    try:
        connection.set_busy_timeout(0)
        # A connection finds the log with its first read only.
        connection.pragma("schema_version")
        connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_PASSIVE)
        if cut:
            connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_TRUNCATE)
    except apsw.BusyError:
        # A long read holds the log: the next one will do.
        return
    finally:
        connection.close()


def replace(draft: Path, path: Path) -> None:
    """Put the whole database ``draft`` at ``path``, where none is."""
    # The log of a database that is gone would be played onto this one.
    for rest in ("-wal", "-shm"):
        path.with_name(path.name + rest).unlink(missing_ok=True)
    draft.rename(path)
    sync_folder(path.parent)


def _open(path: Path, vfs: str | None) -> apsw.Connection:
    connection = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READWRITE, vfs=vfs)
    connection.set_busy_timeout(_BUSY_MS)
    return connection
