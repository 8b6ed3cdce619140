"""The write-ahead log: when it is copied into the database, and a mark in the database file that it is there.

The mark says: a log stands beside this file, and without it the newest commits are gone. It is there before the log
holds anything, and gone before the log is cut or removed. A log that is missing all the same was lost: by a hand, a
copy that left it out, a mended disk.
"""

from contextlib import suppress
from pathlib import Path

import apsw

from process_cosmos_gateway.private_files import is_there

from . import schema
from .transaction import Transaction

KEY = "log"
"""The mark's name among the store's own facts."""

_WORTH_PAGES = 4000
_MOST_PAGES = 8000


class Growth:
    """How far the log has grown.

    Somebody beside the writer copies it every 4,000 pages, because an alarm waits as long as the writer does. But only
    the writer can begin the log anew, when all of it is copied: under a flood it copies the rest at 8,000 pages.
    """

    def __init__(self) -> None:
        """Begin with an empty log."""
        self._pages = 0
        self._copied = 0

    def follow(self, connection: apsw.Connection) -> apsw.Connection:
        """Hear of each commit of the writer's ``connection``, in its thread."""
        connection.set_wal_hook(self._committed)
        return connection

    def is_worth_copying(self) -> bool:
        """Say whether enough has come since this was last true."""
        if self._pages - self._copied < _WORTH_PAGES:
            return False
        self._copied = self._pages
        return True

    def _committed(self, connection: apsw.Connection, _: str, pages: int) -> int:
        if pages < self._pages:
            self._copied = 0
        self._pages = pages
        if pages >= _MOST_PAGES:
            # The commit stands whether or not this can be done; the next one tries again.
            with suppress(apsw.Error):
                connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_PASSIVE)
        return apsw.SQLITE_OK


def mark(transaction: Transaction) -> None:
    """Say that the log counts from now on; it holds once a checkpoint has brought it into the database file."""
    transaction.run("INSERT OR REPLACE INTO meta VALUES (?, 1)", KEY)


def unmark(transaction: Transaction) -> None:
    """Say that the log may be cut, or removed, once this is on disk."""
    transaction.run("DELETE FROM meta WHERE key = ?", KEY)


def is_lost(path: Path, vfs: str | None) -> bool:
    """Say whether the database at ``path`` had a log that is not there any more."""
    log = path.with_name(f"{path.name}-wal")
    if not path.stat().st_size or (is_there(log) and log.stat().st_size):
        return False
    connection = schema.connect_untouched(path, vfs)
    try:
        return connection.execute("SELECT 1 FROM meta WHERE key = ?", (KEY,)).get is not None
    except apsw.Error:
        return False  # whatever is wrong with it, the check says so
    finally:
        connection.close()
