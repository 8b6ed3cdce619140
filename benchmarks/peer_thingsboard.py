"""The store of the ThingsBoard gateway: ``FOLDER NUMBER`` prints how many messages of 300 bytes a second it takes.

As it comes: ``put`` returns before anything is written, and what is written is not synced (WAL, NORMAL), so time runs
until all rows can be read in its database. Its connectors and its converter are left out: they would only cost more.
"""

import importlib
import logging
import sqlite3
import sys
import time
from contextlib import closing
from pathlib import Path
from threading import Event

from .bench import PEERS
from .load import ENCODED

PACKAGE = "thingsboard_gateway"
_LOOK_EVERY = 0.005


class _Logger(logging.Logger):
    """Has the level the peer brings with its own logging."""

    def trace(self, *_: object) -> None:
        """Discard the trace messages of the peer."""


def main(folder: Path, number: int) -> None:
    """Put ``number`` messages, and wait until they are all there."""
    sys.path.append(str(PEERS / "thingsboard"))
    storage = importlib.import_module(f"{PACKAGE}.storage.sqlite.sqlite_event_storage")
    settings = {"data_file_path": f"{folder}/", "messages_ttl_check_in_hours": 24}
    store = storage.SQLiteEventStorage(settings, _Logger(PACKAGE), Event())
    message = "x" * ENCODED
    begun = time.perf_counter()
    for _ in range(number):
        if not store.put(message):
            raise OSError("it takes no more")
    while _rows(folder) < number:
        time.sleep(_LOOK_EVERY)
    print(number / (time.perf_counter() - begun), flush=True)
    store.stop()


def _rows(folder: Path) -> int:
    total = 0
    for file in folder.rglob("*.db"):
        with closing(sqlite3.connect(f"file:{file}?mode=ro", uri=True)) as database:
            total += database.execute("SELECT max(rowid) FROM messages").fetchone()[0] or 0
    return total


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
