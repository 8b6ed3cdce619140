"""What the disk has last done to the store, and what is to be done about it."""

import logging
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import apsw

from process_cosmos_gateway.contract.destinations import StorageState

from .disk_reserve import Disk
from .file_watch import Presence

_LOGGER = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class StorageHealth:
    """``reason``: what the disk said; None: nothing."""

    state: StorageState = StorageState.OK
    reason: str | None = None


class Watch:
    """Told by the store's threads how each commit ended."""

    def __init__(self, disk: Disk, marker: Path, presence: Presence) -> None:
        """``marker``: a file that lets the next open salvage the database; ``presence``: of its files."""
        self.health = StorageHealth()
        self.damage: Exception | None = None
        self._presence = presence
        self._disk = disk
        self._marker = marker

    def failed(self, error: Exception) -> bool:
        """Remember ``error``; return whether room was made, so that the same may be tried again at once."""
        state = _state(error)
        if state is not self.health.state:
            _LOGGER.error("The store cannot be written: %s (%s)", error, state)
        self.health = StorageHealth(state, str(error))
        if is_damage(error):
            self.damage = error
            with suppress(OSError):
                self._marker.touch(mode=0o600)
        if state is StorageState.FULL:
            return self._disk.give_up_ballast()
        return False

    def find_problem(self) -> str | None:
        """Return why nothing may be acknowledged any more, if the database's files were deleted or replaced."""
        problem = self._presence.find_problem()
        if problem is not None and self.health.reason != problem:
            _LOGGER.error("%s. Nothing new is accepted until what the app still has open is saved.", problem)
            self.health = StorageHealth(StorageState.FAILING, problem)
        return problem

    def committed(self) -> None:
        """Remember that the disk takes commits; a full one is over when there is room for the ballast too."""
        if self.health.state is not StorageState.OK and not self._disk.gave_up and self.damage is None:
            _LOGGER.warning("The store can be written again")
            self.health = StorageHealth()


def is_damage(error: Exception) -> bool:
    """Say whether the database itself is wrong, also cut short: no trouble of the disk, which may pass."""
    if isinstance(error, apsw.IOError):
        return getattr(error, "extendedresult", None) == apsw.SQLITE_IOERR_SHORT_READ
    return isinstance(error, apsw.CorruptError | apsw.NotADBError)


def _state(error: Exception) -> StorageState:
    if isinstance(error, apsw.FullError):
        return StorageState.FULL
    if isinstance(error, apsw.ReadOnlyError | apsw.PermissionsError):
        return StorageState.READ_ONLY
    return StorageState.FAILING
