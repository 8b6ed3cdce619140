"""Copies the database for Home Assistant's backups, and adopts such a copy after a restore."""

from contextlib import closing, suppress
from pathlib import Path

import apsw

from process_cosmos_gateway.errors import StoreError
from process_cosmos_gateway.private_files import is_there, make_private, move_durably, remove_private

from . import schema, wal
from .disk_reserve import RESERVE, free_bytes

FOLDER = "backup"
COPY = "store.sqlite"
"""Differs from the database's own name, because a backup leaves out every file of that name, in any folder."""
_LIVE = (".sqlite", ".sqlite-wal")


def make_backup(folder: Path, vfs: str | None = None) -> Path:
    """Make a consistent copy of the database in ``folder``, also while a gateway writes to it; return its path.

    Raises ``StoreError``; an existing copy is kept then.
    """
    try:
        return _make_backup(folder, vfs)
    except (apsw.Error, OSError) as error:
        raise StoreError(f"the database could not be copied for the backup: {error}") from error


def _make_backup(folder: Path, vfs: str | None) -> Path:
    size = sum(file.stat().st_size for file in folder.glob(f"{schema.FILE}*") if file.suffix in _LIVE)
    # The copy may take as much space as the database and its log, and the gateway continues to accept events meanwhile.
    if free_bytes(folder) < size + 3 * RESERVE:
        raise StoreError(
            "the database was not copied for the backup: too little disk space would be left for urgent events"
        )
    copy = copy_beside(folder / schema.FILE)
    copy.parent.mkdir(mode=0o700, exist_ok=True)
    draft = copy.with_suffix(".new")
    draft.unlink(missing_ok=True)
    make_private(draft)
    with closing(schema.connect(folder / schema.FILE, vfs, read_only=False)) as connection:
        connection.execute("VACUUM INTO ?", (str(draft),))
    move_durably(draft, copy)
    return copy


def remove_backup(folder: Path) -> None:
    """Delete the backup copy in ``folder``, if there is one."""
    with suppress(FileNotFoundError):
        remove_private(copy_beside(folder / schema.FILE))


def copy_beside(path: Path) -> Path:
    """Return the path of the backup copy that belongs to the database at ``path``."""
    return path.parent / FOLDER / COPY


def adopt(path: Path, ulid_fn: schema.UlidFn, vfs: str | None) -> bool:
    """Turn a restored copy into the database at ``path``, with a new epoch; return False if there is no copy.

    There must be no database at ``path``.
    """
    copy = copy_beside(path)
    if not is_there(copy):
        return False
    # If the copy is damaged, the check that follows recovers it, and a recovery begins a new epoch too.
    with (
        suppress(apsw.CorruptError, apsw.NotADBError, apsw.SQLError),
        closing(apsw.Connection(str(copy), flags=apsw.SQLITE_OPEN_READWRITE, vfs=vfs)) as connection,
        connection,
    ):
        # A copy has no log: with the mark it would count as a database that lost its newest commits.
        connection.execute("DELETE FROM meta WHERE key = ?", (wal.KEY,))
        connection.execute("UPDATE meta SET value = ? WHERE key = 'epoch'", (ulid_fn(),))
        connection.execute(schema.SCHEMA.with_name("restored.sql").read_text("utf-8"))
    schema.replace(copy, path)
    return True
