"""The alerts' clock: wall time without jumps."""

from collections.abc import Callable
from datetime import UTC, datetime

JUMP = 60.0
"""Seconds by which the wall clock must be off to have jumped; smaller corrections are followed."""


class SteadyClock:
    """Shows the wall time, but shifts over a jump of the wall clock: what is due in a minute stays due in a minute."""

    def __init__(self, wall: Callable[[], datetime], monotonic: Callable[[], float]) -> None:
        """Read the wall clock by ``wall``, and by ``monotonic`` one that never jumps, in seconds."""
        self._wall = wall
        self._monotonic = monotonic
        self._offset = self._true_offset

    def now(self) -> datetime:
        """Return the time, in UTC."""
        offset = self._true_offset
        if abs(offset - self._offset) <= JUMP:
            self._offset = offset
        return datetime.fromtimestamp(self._monotonic() + self._offset, UTC)

    def trust_the_wall(self) -> None:
        """Follow a jump: nothing waits that it could hurt."""
        self._offset = self._true_offset

    def not_before(self, moment: datetime) -> None:
        """Go on from ``moment`` if the wall clock is older than that: what is on disk is the better witness."""
        self._offset = max(self._offset, moment.timestamp() - self._monotonic())

    @property
    def _true_offset(self) -> float:
        return self._wall().timestamp() - self._monotonic()
