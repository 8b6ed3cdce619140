"""The book: every record in the order it was seen, in memory and in a file for later reading."""

import asyncio
import time
from collections.abc import Callable
from pathlib import Path

import orjson

from .evidence import Record


class Book:
    """Takes records; somebody may wait until it holds certain ones."""

    def __init__(self, file: Path) -> None:
        """Write each record as one JSON line to ``file``."""
        self.records: list[Record] = []
        self._file = file.open("wb")
        self._waiting: dict[asyncio.Future[None], Callable[[], bool]] = {}

    def write(self, record: Record) -> None:
        """Append ``record`` to the book."""
        self.records.append(record)
        line = orjson.dumps({"at": round(time.time(), 4), "what": type(record).__name__, "record": record})
        self._file.write(line + b"\n")
        self._file.flush()
        for waiter, satisfied in self._waiting.items():
            if not waiter.done() and satisfied():
                waiter.set_result(None)

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    async def until(self, satisfied: Callable[[], bool], limit: float) -> bool:
        """Return True as soon as ``satisfied`` (asked after each record), False after ``limit`` seconds."""
        if satisfied():
            return True
        waiter = asyncio.get_running_loop().create_future()
        self._waiting[waiter] = satisfied
        try:
            async with asyncio.timeout(limit):
                await waiter
        except TimeoutError:
            return False
        finally:
            del self._waiting[waiter]
        return True
