"""Peers in Python: ``persist_queue | litequeue FOLDER NUMBER`` prints how many messages of 300 bytes a second are put.

Both as they come. persist-queue syncs at each commit (WAL, FULL); litequeue does not (WAL, NORMAL): a power cut takes
its last messages.
"""

import importlib
import sys
import time
from pathlib import Path

from .bench import PEERS
from .load import ENCODED


def main(name: str, folder: Path, number: int) -> None:
    """Put ``number`` messages one after the other: with a lock of its own more threads only slow a queue down."""
    sys.path.append(str(PEERS / "python"))
    message = "x" * ENCODED
    if name == "persist_queue":
        put = importlib.import_module("persistqueue").SQLiteQueue(str(folder), auto_commit=True).put
    else:
        put = importlib.import_module("litequeue").LiteQueue(str(folder / "queue.sqlite")).put
    begun = time.perf_counter()
    for _ in range(number):
        put(message)
    print(number / (time.perf_counter() - begun))


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]))
