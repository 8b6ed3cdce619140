"""Decides when the write-ahead log is checkpointed, and marks in the database file that a log exists.

The mark means that a log belongs to this file, and that the newest commits are missing without it. It is written
before the log holds anything, and removed before the log is truncated or deleted. If the log of a marked database is
missing, it was lost: deleted by a person, left out of a copy, or lost by a file system repair.
"""

from contextlib import closing, suppress
from pathlib import Path

import apsw

from process_cosmos_gateway.private_files import is_there

from . import schema
from .transaction import Transaction

KEY = "log"
"""The key of the mark in the table ``meta``."""

_CHECKPOINT_PAGES = 4000
_MAX_PAGES = 8000


class WalGrowth:
    """Tracks the size of the log in pages.

    Another thread checkpoints every 4,000 pages, because urgent events wait while the writer is busy. But only the
    writer can restart the log, once all of it is copied: under heavy load it checkpoints by itself at 8,000 pages.
    """

    def __init__(self) -> None:
        """Begin with an empty log."""
        self._pages = 0
        self._checkpointed = 0

    def follow(self, connection: apsw.Connection) -> apsw.Connection:
        """Track the commits of the writer's ``connection``, in its thread; return the connection."""
        connection.set_wal_hook(self._note_commit)
        return connection

    def is_checkpoint_due(self) -> bool:
        """Return whether the log has grown by 4,000 pages since this method last returned True."""
        if self._pages - self._checkpointed < _CHECKPOINT_PAGES:
            return False
        self._checkpointed = self._pages
        return True

    def _note_commit(self, connection: apsw.Connection, _: str, pages: int) -> int:
        if pages < self._pages:
            self._checkpointed = 0
        self._pages = pages
        if pages >= _MAX_PAGES:
            # The commit is durable even if the checkpoint fails; the next commit tries again.
            with suppress(apsw.Error):
                connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_PASSIVE)
        return apsw.SQLITE_OK


def mark(transaction: Transaction) -> None:
    """Set the mark; it takes effect once a checkpoint has written it into the database file."""
    transaction.run("INSERT OR REPLACE INTO meta VALUES (?, 1)", KEY)


def unmark(transaction: Transaction) -> None:
    """Remove the mark; once that is on disk, the log may be truncated or deleted."""
    transaction.run("DELETE FROM meta WHERE key = ?", KEY)


def is_lost(path: Path, vfs: str | None) -> bool:
    """Return whether the database at ``path`` is marked but has no log, or an empty one."""
    log = path.with_name(f"{path.name}-wal")
    if not path.stat().st_size or (is_there(log) and log.stat().st_size):
        return False
    # If it cannot be read, the integrity check reports what is wrong.
    with closing(schema.connect_untouched(path, vfs)) as connection, suppress(apsw.Error):
        return connection.execute("SELECT 1 FROM meta WHERE key = ?", (KEY,)).get is not None
    return False
