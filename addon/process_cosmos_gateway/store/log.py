"""A mark in the database file itself that says: a log stands beside it, and without that the newest commits are gone.

It is there before the log holds anything, and gone before the log is cut or removed. A log that is missing all the same
was lost: by a hand, a copy that left it out, a mended disk.
"""

from pathlib import Path

import apsw

from . import schema
from .transaction import Transaction

KEY = "log"
"""The mark's name among the store's own facts."""


def mark(transaction: Transaction) -> None:
    """Say that the log counts from now on; it holds once a checkpoint has brought it into the database file."""
    transaction.run("INSERT OR REPLACE INTO meta VALUES (?, 1)", KEY)


def unmark(transaction: Transaction) -> None:
    """Say that the log may be cut, or removed, once this is on disk."""
    transaction.run("DELETE FROM meta WHERE key = ?", KEY)


def is_lost(path: Path, vfs: str | None) -> bool:
    """Say whether the database at ``path`` had a log that is not there any more."""
    log = path.with_name(f"{path.name}-wal")
    if not path.stat().st_size or (log.exists() and log.stat().st_size):
        return False
    connection = schema.connect_untouched(path, vfs)
    try:
        return connection.execute("SELECT 1 FROM meta WHERE key = ?", (KEY,)).get is not None
    except apsw.Error:
        return False  # whatever is wrong with it, the check says so
    finally:
        connection.close()
