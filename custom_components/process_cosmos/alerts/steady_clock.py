"""Clock of the alerts: wall time without jumps."""

from collections.abc import Callable
from datetime import UTC, datetime

MAX_CORRECTION = 60.0
"""Seconds up to which a correction of the wall clock is followed; a larger one counts as a jump."""


class SteadyClock:
    """A clock that follows the wall clock but ignores its jumps: what is due in a minute stays due in a minute."""

    def __init__(self, wall: Callable[[], datetime], monotonic: Callable[[], float]) -> None:
        """Start at the wall time; ``monotonic`` returns seconds of a clock that never jumps."""
        self._wall = wall
        self._monotonic = monotonic
        self._offset = self._true_offset

    def now(self) -> datetime:
        """Return the steady time in UTC."""
        offset = self._true_offset
        if abs(offset - self._offset) <= MAX_CORRECTION:
            self._offset = offset
        return datetime.fromtimestamp(self._monotonic() + self._offset, UTC)

    def adopt_wall_time(self) -> None:
        """Follow a jump of the wall clock; to be called only while nothing is scheduled."""
        self._offset = self._true_offset

    def advance_to(self, moment: datetime) -> None:
        """Continue from ``moment`` if the clock is behind it: a recorded time proves that the wall clock is slow."""
        self._offset = max(self._offset, moment.timestamp() - self._monotonic())

    @property
    def _true_offset(self) -> float:
        return self._wall().timestamp() - self._monotonic()
