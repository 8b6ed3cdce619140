"""Derives the health of the store from the result of each transaction."""

import logging
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import apsw

from process_cosmos_gateway.contract.destinations import StorageState

from .disk_reserve import DiskReserve
from .file_watch import FileWatch

_LOGGER = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class StorageHealth:
    """State of the store's disk; ``reason``: the error message, None if there is none."""

    state: StorageState = StorageState.OK
    reason: str | None = None


class HealthMonitor:
    """Receives the result of each transaction from the database threads."""

    def __init__(self, disk: DiskReserve, marker: Path, files: FileWatch) -> None:
        """Begin healthy; ``marker``: created on damage, so that the next open recovers the database."""
        self.health = StorageHealth()
        self.damage: Exception | None = None
        self._files = files
        self._disk = disk
        self._marker = marker

    def note_failure(self, error: Exception) -> bool:
        """Record ``error``; return whether disk space was freed, so that a retry makes sense."""
        state = _state(error)
        if state is not self.health.state:
            _LOGGER.error(
                "The database cannot be written: %s (%s). Commits are retried every second; check the disk",
                error,
                state,
            )
        self.health = StorageHealth(state, str(error))
        if is_damage(error):
            self.damage = error
            with suppress(OSError):
                self._marker.touch(mode=0o600)
        if state is StorageState.FULL:
            return self._disk.delete_ballast()
        return False

    def find_problem(self) -> str | None:
        """Return why commits must not be acknowledged: database files were deleted or replaced. None: they may."""
        problem = self._files.find_problem()
        if problem is not None and self.health.reason != problem:
            _LOGGER.error("%s. Nothing is accepted until the content of the open files has been saved", problem)
            self.health = StorageHealth(StorageState.FAILING, problem)
        return problem

    def note_commit(self) -> None:
        """Record a successful commit; after a full disk the store is healthy only once the ballast is back."""
        if self.health.state is not StorageState.OK and not self._disk.is_ballast_missing and self.damage is None:
            _LOGGER.warning("The database can be written again")
            self.health = StorageHealth()


def is_damage(error: Exception) -> bool:
    """Return whether the database itself is damaged or truncated; disk errors may be temporary and do not count."""
    if isinstance(error, apsw.IOError):
        return getattr(error, "extendedresult", None) == apsw.SQLITE_IOERR_SHORT_READ
    return isinstance(error, apsw.CorruptError | apsw.NotADBError)


def _state(error: Exception) -> StorageState:
    if isinstance(error, apsw.FullError):
        return StorageState.FULL
    if isinstance(error, apsw.ReadOnlyError | apsw.PermissionsError):
        return StorageState.READ_ONLY
    return StorageState.FAILING
