"""The disk below the store: how much of it is free, and a ballast to throw off when nothing is."""

import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

RESERVE = 16 * 1024 * 1024
"""Bytes kept for alarms, unless an option says otherwise."""

_BALLAST = "ballast"
_ROOM = 3
"""The ballast is taken in again where so many reserves are free: not a moment before it is needed once more."""
_LOOK_SECONDS = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Space:
    """Bytes: ``free`` on the disk, the ``reserve`` that is for alarms, and the ``ballast`` that is there to give up."""

    free: int
    reserve: int
    ballast: int


def free_bytes(folder: Path) -> int:
    """Return how many bytes this process may still write to the disk of ``folder``."""
    found = os.statvfs(folder)
    return found.f_bavail * found.f_frsize


class Disk:
    """Looks at the disk no more than once a second; any thread may ask."""

    def __init__(self, folder: Path, reserve: int, free_fn: Callable[[Path], int] = free_bytes) -> None:
        """Look at the disk of ``folder``."""
        self._folder = folder
        self._file = folder / _BALLAST
        self._reserve = reserve
        self._free_fn = free_fn
        self._space, self._looked_at = self._look(), time.monotonic()
        self.gave_up = False
        """The disk was full, and there was no room for the ballast since."""

    @property
    def space(self) -> Space:
        """What is free, at most a second old."""
        if time.monotonic() - self._looked_at >= _LOOK_SECONDS:
            self.look_again()
        return self._space

    def look_again(self) -> None:
        """Look at once: something has just failed, or room was made."""
        self._space, self._looked_at = self._look(), time.monotonic()

    def give_up_ballast(self) -> bool:
        """Make room at the price of the ballast; say whether there was one."""
        self.gave_up = True
        try:
            self._file.unlink()
        except OSError:
            return False
        finally:
            self.look_again()
        return True

    def take_ballast(self) -> None:
        """Take the ballast in (again) if there is room for it and more; raise ``OSError`` if the disk refuses."""
        if self._space.ballast == self._reserve:
            self.gave_up = False
        elif self.space.free >= _ROOM * self._reserve:
            draft = self._file.with_suffix(".new")
            descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT, 0o600)
            try:
                os.posix_fallocate(descriptor, 0, self._reserve)
                os.fsync(descriptor)
            except OSError:
                draft.unlink()
                raise
            finally:
                os.close(descriptor)
            draft.replace(self._file)
            self.gave_up = False
            self.look_again()

    def _look(self) -> Space:
        try:
            ballast = self._file.stat().st_size
        except OSError:
            ballast = 0
        return Space(free=self._free_fn(self._folder), reserve=self._reserve, ballast=ballast)
