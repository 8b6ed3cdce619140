"""A disk that fails when told: an SQLite VFS over the machine's files."""

import errno
from collections.abc import Buffer, Callable
from dataclasses import dataclass, field
from enum import StrEnum
from typing import override

import apsw

NAME = "lab-disk"


class DiskFault(StrEnum):
    """How the disk fails: full, or broken, at writes or at syncs."""

    FULL = "full"
    WRITE = "write"
    SYNC = "sync"


_ERRORS: dict[DiskFault, Callable[[], apsw.Error]] = {
    DiskFault.FULL: lambda: apsw.FullError(f"no space left on device ({errno.ENOSPC})"),
    DiskFault.WRITE: lambda: apsw.IOError(f"input/output error ({errno.EIO})"),
    DiskFault.SYNC: lambda: apsw.IOError("fsync failed"),
}


@dataclass(slots=True, kw_only=True)
class DiskCounts:
    """What was asked of the disk since its start, and how often it failed."""

    writes: int = 0
    syncs: int = 0
    failed: int = 0


@dataclass(slots=True)
class Disk:
    """What all files of the VFS ask before each write and each sync."""

    counts: DiskCounts = field(default_factory=DiskCounts)
    fault: DiskFault | None = None
    passing: int = 0
    failing: int = 0

    def fail(self, fault: str, after: int = 0, times: int = 1) -> None:
        """Let ``after`` calls that could fail pass, then fail ``times`` of them (-1: until it is healed)."""
        self.fault, self.passing, self.failing = DiskFault(fault), after, times

    def heal(self) -> None:
        """Fail no more."""
        self.fault = None

    def before_write(self) -> None:
        """Count a write; raise if it is to fail."""
        self.counts.writes += 1
        self._ask(DiskFault.FULL, DiskFault.WRITE)

    def before_sync(self) -> None:
        """Count a sync; raise if it is to fail."""
        self.counts.syncs += 1
        self._ask(DiskFault.SYNC)

    def _ask(self, *faults: DiskFault) -> None:
        if self.fault not in faults or not self.failing:
            return
        if self.passing:
            self.passing -= 1
            return
        self.failing -= 1
        self.counts.failed += 1
        error = _ERRORS[self.fault]()
        raise error


class DiskVfs(apsw.VFS):
    """SQLite's way to the machine's files by way of a ``Disk``; registered as ``NAME`` while it lives."""

    def __init__(self, disk: Disk) -> None:
        """Register it."""
        self._disk = disk
        super().__init__(NAME, base="")

    @override
    def xOpen(self, name: str | apsw.URIFilename | None, flags: list[int]) -> apsw.VFSFile:
        return _File(self._disk, name, flags)


class _File(apsw.VFSFile):
    def __init__(self, disk: Disk, name: str | apsw.URIFilename | None, flags: list[int]) -> None:
        self._disk = disk
        super().__init__("", name, flags)

    @override
    def xWrite(self, data: Buffer, offset: int) -> None:
        self._disk.before_write()
        super().xWrite(data, offset)

    @override
    def xSync(self, flags: int) -> None:
        self._disk.before_sync()
        super().xSync(flags)
