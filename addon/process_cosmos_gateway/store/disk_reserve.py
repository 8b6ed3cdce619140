"""Watches the free disk space, and keeps a ballast file that is deleted when the disk is full."""

import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

RESERVE = 16 * 1024 * 1024
"""Default size in bytes of the disk space reserved for urgent events."""

_BALLAST = "ballast"
_FREE_RESERVES = 3
"""The ballast is written again when this many reserves are free, so that it is not needed again at once."""
_MAX_AGE_SECONDS = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Space:
    """Sizes in bytes: ``free`` on the disk, the ``reserve`` for urgent events, and the current ``ballast`` file."""

    free: int
    reserve: int
    ballast: int


def free_bytes(folder: Path) -> int:
    """Return how many bytes this process can still write to the file system of ``folder``."""
    found = os.statvfs(folder)
    return found.f_bavail * found.f_frsize


class DiskReserve:
    """Measures the free space at most once a second and manages the ballast file. Thread-safe."""

    def __init__(self, folder: Path, reserve: int, free_fn: Callable[[Path], int] = free_bytes) -> None:
        """Measure the file system of ``folder``; ``reserve``: bytes for urgent events, also the size of the ballast."""
        self._folder = folder
        self._file = folder / _BALLAST
        self._reserve = reserve
        self._free_fn = free_fn
        self._space, self._measured_at = self._measure(), time.monotonic()
        self.is_ballast_missing = False
        """The disk was full, and there has been no space for the ballast since."""

    @property
    def space(self) -> Space:
        """The sizes, measured at most a second ago."""
        if time.monotonic() - self._measured_at >= _MAX_AGE_SECONDS:
            self.measure_now()
        return self._space

    @property
    def needs_ballast(self) -> bool:
        """Whether ``restore_ballast`` has something to do; measures like ``space``."""
        return self.is_ballast_missing or self.space.ballast != self._reserve

    def measure_now(self) -> None:
        """Measure at once: a write has just failed, or space was freed."""
        self._space, self._measured_at = self._measure(), time.monotonic()

    def delete_ballast(self) -> bool:
        """Delete the ballast file to free disk space; return whether there was one."""
        self.is_ballast_missing = True
        try:
            self._file.unlink()
        except OSError:
            return False
        finally:
            self.measure_now()
        return True

    def restore_ballast(self) -> None:
        """Write the ballast file if it is missing and three reserves are free; raise ``OSError`` if that fails."""
        if self._space.ballast == self._reserve:
            self.is_ballast_missing = False
        elif self.space.free >= _FREE_RESERVES * self._reserve:
            draft = self._file.with_suffix(".new")
            descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT, 0o600)
            try:
                # A sparse file would occupy no blocks, and deleting it would free none.
                os.posix_fallocate(descriptor, 0, self._reserve)
                os.fsync(descriptor)
            except OSError:
                draft.unlink()
                raise
            finally:
                os.close(descriptor)
            draft.replace(self._file)
            self.is_ballast_missing = False
            self.measure_now()

    def _measure(self) -> Space:
        try:
            ballast = self._file.stat().st_size
        except OSError:
            ballast = 0
        return Space(free=self._free_fn(self._folder), reserve=self._reserve, ballast=ballast)
