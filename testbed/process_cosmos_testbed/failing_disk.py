"""A disk that fails on command, and loses unsynced writes in a power cut: an SQLite VFS over real files."""

import asyncio
import os
import signal
import threading
from collections.abc import Buffer, Callable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from random import Random
from typing import override

import apsw

from process_cosmos_gateway.options import MEGABYTE
from process_cosmos_gateway.store.disk_reserve import free_bytes

NAME = "failing-disk"
SECTOR = 512
"""Bytes that a disk writes completely or not at all."""

_REPLY_SECONDS = 0.05
_LATEST_CUT = 30
"""Writes after which the power is cut at the latest."""


class DiskFault(StrEnum):
    """How the disk fails: full, broken or read-only on writes, or broken on syncs."""

    FULL = "full"
    WRITE = "write"
    SYNC = "sync"
    READ_ONLY = "read_only"


_ERRORS: Mapping[DiskFault, Callable[[], apsw.Error]] = {
    DiskFault.FULL: lambda: apsw.FullError("no space left on device"),
    DiskFault.WRITE: lambda: apsw.IOError("input/output error"),
    DiskFault.SYNC: lambda: apsw.IOError("fsync failed"),
    DiskFault.READ_ONLY: lambda: apsw.ReadOnlyError("read-only file system"),
}


@dataclass(frozen=True, slots=True)
class _Write:
    """An unsynced change of a file: the bytes before and after it, and the length of the file before."""

    offset: int
    before: bytes
    after: bytes
    length: int


@dataclass(slots=True)
class _Unsynced:
    """A file and its unsynced writes; the descriptor is never closed, since that would drop SQLite's locks."""

    descriptor: int
    writes: list[_Write] = field(default_factory=list)

    def record(self, offset: int, after: bytes, until: int) -> None:
        length = os.fstat(self.descriptor).st_size
        self.writes.append(_Write(offset, os.pread(self.descriptor, until - offset, offset), after, length))

    def forget(self, kept: str, random: Random) -> None:
        """Restore the file as of its last sync; with ``torn`` keep random sectors of some later writes."""
        # Newest first: where two writes overlap, only the older one has the synced bytes.
        for write in reversed(self.writes):
            os.pwrite(self.descriptor, write.before, write.offset)
            os.ftruncate(self.descriptor, write.length)
        if kept == "torn":
            # The sample is in random order, since a disk writes its cache in any order.
            for write in random.sample(self.writes, random.randint(0, len(self.writes))):
                for start, piece in _sectors(write.after):
                    if random.random() < 0.7:  # noqa: PLR2004 - most sectors of a torn write survive
                        os.pwrite(self.descriptor, piece, write.offset + start)


def _die() -> None:
    # An exit would run clean-up code, and a machine without power runs none.
    os.kill(os.getpid(), signal.SIGKILL)


@dataclass(slots=True)
class FailingDisk:
    """The state shared by all files of the VFS; counts calls, and how many of them ``failed``.

    ``looks``: how often the free space was read.
    """

    writes: int = 0
    syncs: int = 0
    failed: int = 0
    looks: int = 0
    fault: DiskFault | None = None
    free: int = 0
    passing: int = 0
    failing: int = 0
    files: dict[str, _Unsynced] = field(default_factory=dict)
    lock: threading.RLock = field(default_factory=threading.RLock)
    die: Callable[[], None] = _die
    _dark: Callable[[], None] | None = None
    _until_dark: int = 0

    def fail(self, fault: str, after: int = 0, times: int = 1) -> None:
        """Let ``after`` calls pass, then fail ``times`` calls (-1: until ``heal``)."""
        self.fault, self.passing, self.failing = DiskFault(fault), after, times

    def heal(self) -> None:
        """Stop failing any calls."""
        self.fault = None

    def set_free(self, megabytes: int) -> None:
        """Report ``megabytes`` as free from now on; 0: what is free on the real disk."""
        self.free = megabytes * MEGABYTE

    def free_bytes(self, folder: Path) -> int:
        """Return the free bytes, as set or as they are."""
        self.looks += 1
        return self.free or free_bytes(folder)

    def counts(self) -> Mapping[str, int]:
        """Return the numbers of calls, and how many failed."""
        return {"writes": self.writes, "syncs": self.syncs, "failed": self.failed, "looks": self.looks}

    async def cut(self, kept: str, seed: int) -> int:
        """Cut the power during one of the next commits, which ends the process; return the number of unsynced writes.

        ``kept``: ``none`` of these writes, or ``torn`` parts of some.
        """
        random = Random(seed)  # noqa: S311 - a seed makes a run repeatable
        loop, unsynced = asyncio.get_running_loop(), asyncio.Future[int]()

        def go_dark() -> None:
            count = sum(len(file.writes) for file in self.files.values())
            for file in self.files.values():
                file.forget(kept, random)
            loop.call_soon_threadsafe(unsynced.set_result, count)
            threading.Event().wait()  # holds the lock, so that nothing is written any more

        with self.lock:
            self._dark, self._until_dark = go_dark, random.randint(2, _LATEST_CUT)
        count = await unsynced
        # The process lives just long enough to send its reply.
        loop.call_later(_REPLY_SECONDS, self.die)
        return count

    def opened(self, path: str) -> None:
        """Track the file at ``path``, which may have replaced an earlier one."""
        with self.lock:
            known = self.files.get(path)
            if known is None or os.fstat(known.descriptor).st_ino != Path(path).stat().st_ino:
                self.files[path] = _Unsynced(os.open(path, os.O_RDWR))

    def before_write(self, path: str, offset: int, data: bytes) -> None:
        """Count and record a write; raise if it must fail."""
        self.writes += 1
        self._fail_if_due(DiskFault.FULL, DiskFault.WRITE, DiskFault.READ_ONLY)
        if path in self.files:
            self.files[path].record(offset, data, offset + len(data))

    def after_write(self, path: str) -> None:
        """Cut the power if it is due; not at SQLite's temporary files, which no cut can damage."""
        if path not in self.files:
            return
        self._until_dark -= 1
        if self._dark is not None and self._until_dark <= 0:
            self._dark()

    def before_truncate(self, path: str, length: int) -> None:
        """Record that a file ends at ``length`` from now on."""
        if path in self.files:
            self.files[path].record(length, b"", os.fstat(self.files[path].descriptor).st_size)

    def before_sync(self) -> None:
        """Count a sync; raise if it must fail."""
        self.syncs += 1
        self._fail_if_due(DiskFault.SYNC)

    def synced(self, path: str) -> None:
        """Record that all writes of a file are durable."""
        if path in self.files:
            self.files[path].writes.clear()

    def _fail_if_due(self, *faults: DiskFault) -> None:
        if self.fault not in faults or not self.failing:
            return
        if self.passing:
            self.passing -= 1
            return
        self.failing -= 1
        self.failed += 1
        error = _ERRORS[self.fault]()
        raise error


class DiskVfs(apsw.VFS):
    """Passes SQLite's file access through a ``FailingDisk``; registered as ``NAME`` while it is referenced."""

    def __init__(self, disk: FailingDisk) -> None:
        """Register the file system with SQLite."""
        self._disk = disk
        super().__init__(NAME, base="")

    @override
    def xOpen(self, name: str | apsw.URIFilename | None, flags: list[int]) -> apsw.VFSFile:
        return _File(self._disk, name, flags)


class _File(apsw.VFSFile):
    def __init__(self, disk: FailingDisk, name: str | apsw.URIFilename | None, flags: list[int]) -> None:
        self._disk = disk
        super().__init__("", name, flags)
        self._path = name.filename() if isinstance(name, apsw.URIFilename) else name or ""
        if self._path:
            disk.opened(self._path)

    @override
    def xWrite(self, data: Buffer, offset: int) -> None:
        with self._disk.lock:
            self._disk.before_write(self._path, offset, bytes(data))
            super().xWrite(data, offset)
            self._disk.after_write(self._path)

    @override
    def xTruncate(self, newsize: int) -> None:
        with self._disk.lock:
            self._disk.before_truncate(self._path, newsize)
            super().xTruncate(newsize)

    @override
    def xSync(self, flags: int) -> None:
        with self._disk.lock:
            # If it raises, the real sync is skipped and the writes stay unsynced: a later power cut undoes them.
            self._disk.before_sync()
            super().xSync(flags)
            self._disk.synced(self._path)


def edit_schema(database: Path, version: int) -> int:
    """Write another schema version into the database of a stopped gateway; return the previous one."""
    connection = apsw.Connection(str(database), flags=apsw.SQLITE_OPEN_READWRITE)
    try:
        known = connection.execute("SELECT value FROM meta WHERE key = 'schema'").get
        connection.execute("UPDATE meta SET value = ? WHERE key = 'schema'", (version,))
    finally:
        connection.close()
    return int(str(known))


def _sectors(data: bytes) -> Iterator[tuple[int, bytes]]:
    return ((start, data[start : start + SECTOR]) for start in range(0, len(data), SECTOR))
