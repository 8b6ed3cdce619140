"""Helpers for tests that use the store: ids, a clock, and a VFS that fails on request."""

import os
import time
from collections.abc import AsyncIterator, Buffer
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import apsw

from process_cosmos_gateway.contract.identifiers import UlidFactory
from process_cosmos_gateway.store import Store


def new_ulids() -> UlidFactory:
    """Return a factory of new ULIDs."""
    return UlidFactory(lambda: time.time_ns() // 1_000_000, os.urandom)


@asynccontextmanager
async def opened(folder: Path, *, vfs: str | None = None) -> AsyncIterator[Store]:
    """Open the store in ``folder`` inside the block."""
    store = await Store.open(folder, new_ulids(), vfs=vfs)
    try:
        yield store
    finally:
        await store.close()


class HandClock:
    """A clock that tests advance; ``set_wall`` changes only the wall clock."""

    def __init__(self) -> None:
        """Begin at a fixed time."""
        self._now = datetime(2026, 11, 22, 12, tzinfo=UTC)
        self._monotonic = 1000.0

    def now(self) -> datetime:
        """Return the wall clock time."""
        return self._now

    def monotonic(self) -> float:
        """Return the monotonic time in seconds."""
        return self._monotonic

    def advance(self, seconds: float) -> None:
        """Advance both clocks by ``seconds``."""
        self._now += timedelta(seconds=seconds)
        self._monotonic += seconds

    def set_wall(self, seconds: float) -> None:
        """Move only the wall clock by ``seconds``."""
        self._now += timedelta(seconds=seconds)


class SyncCountingVfs(apsw.VFS):
    """The default VFS; counts fsyncs, and fails writes or fsyncs on request."""

    def __init__(self, name: str) -> None:
        """Register as ``name``."""
        self.syncs = 0
        self.fail_next_syncs = 0
        self.refuse: type[apsw.Error] | None = None
        self.refuse_while: Path | None = None
        super().__init__(name, base="")

    def xOpen(self, name: str | apsw.URIFilename | None, flags: list[int]) -> apsw.VFSFile:  # noqa: N802 - apsw's name
        """Open a file that counts its fsyncs here."""
        return _CountingFile(self, name, flags)


class _CountingFile(apsw.VFSFile):
    def __init__(self, vfs: SyncCountingVfs, name: str | apsw.URIFilename | None, flags: list[int]) -> None:
        self._vfs = vfs
        super().__init__("", name, flags)

    def xWrite(self, data: Buffer, offset: int) -> None:  # noqa: N802 - apsw's name
        """Write, or raise ``refuse``: always, or while the file ``refuse_while`` exists."""
        if self._vfs.refuse and (self._vfs.refuse_while is None or self._vfs.refuse_while.exists()):
            raise self._vfs.refuse("refused")
        super().xWrite(data, offset)

    def xSync(self, flags: int) -> None:  # noqa: N802 - apsw's name
        """Count the fsync, then run it or fail."""
        self._vfs.syncs += 1
        if self._vfs.fail_next_syncs:
            self._vfs.fail_next_syncs -= 1
            raise apsw.IOError("fsync failed")
        super().xSync(flags)
