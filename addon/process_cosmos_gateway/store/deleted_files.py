"""Saves the content of a deleted database through a handle that is still open."""

from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import apsw

from process_cosmos_gateway.private_files import move_durably

from . import schema, wal
from .recovery import Recovered, finish_recovery


def rescue(connection: apsw.Connection, path: Path, vfs: str | None, ulid_fn: schema.UlidFn, *, is_ours: bool) -> None:
    """Write the content that ``connection`` still reads of the deleted database to a new database at ``path``.

    Site and epoch stay the same, as no commit is missing. ``is_ours``: the file at ``path`` is the open one, and only
    its log was deleted; any other file there is kept as ``….damaged-<ULID>``. Raises ``apsw.Error`` and ``OSError``:
    then nothing at ``path`` has changed, or ``finish_recovery`` completes the work.
    """
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    draft = draft_beside(path)
    draft.unlink(missing_ok=True)
    connection.execute("PRAGMA query_only = 0")  # the reader's handle has it on, and VACUUM INTO obeys it
    connection.execute("VACUUM INTO ?", (str(draft),))
    draft.chmod(0o600)
    with closing(apsw.Connection(str(draft), flags=apsw.SQLITE_OPEN_READWRITE, vfs=vfs)) as copy, copy:
        copy.execute("DELETE FROM meta WHERE key = ?", (wal.KEY,))
        recovered = Recovered(_count_rows(copy), {}, datetime.now(UTC))
        copy.execute("INSERT OR REPLACE INTO meta VALUES ('recovered', ?)", (recovered.encode(),))
    move_durably(draft, path.with_name(f"{path.name}.recovered-{ulid_fn()}"))
    if is_ours:
        path.unlink()
    path.with_name(f"{path.name}-wal").unlink(missing_ok=True)
    finish_recovery(path)


def draft_beside(path: Path) -> Path:
    """Return the path at which ``rescue`` assembles the database; a kill may leave an incomplete file there."""
    return path.with_name(f"{path.name}.rescued")


def _count_rows(connection: apsw.Connection) -> dict[str, int]:
    tables = [name for (name,) in connection.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")]
    counted = [name for name in tables if name != "meta" and not name.startswith("sqlite_")]
    return {name: int(connection.execute(f'SELECT count(*) FROM "{name}"').get) for name in counted}  # noqa: S608 - names of the schema
