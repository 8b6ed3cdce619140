"""Clock for timers that follows the wall clock but ignores its jumps."""

from dataclasses import dataclass

from process_cosmos_gateway.clock import Clock

LONGEST_ADJUSTMENT = 60.0
"""Seconds: a larger difference between wall and monotonic clock means that the wall clock was set."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Anchor:
    """Reading of both clocks. Steady time is wall time minus ``offset``, the sum of all jumps."""

    wall: float
    monotonic: float
    offset: float

    def at(self, wall: float, monotonic: float) -> Anchor:
        """Return the anchor for the current clock readings: this one, unless the wall clock has jumped."""
        jump = (wall - self.wall) - (monotonic - self.monotonic)
        if abs(jump) <= LONGEST_ADJUSTMENT:
            return self
        return Anchor(wall=wall, monotonic=monotonic, offset=self.offset + jump)


class SteadyClock:
    """Time base of timers in seconds, continuous across restarts. Thread-safe."""

    def __init__(self, clock: Clock, offset: float, newest: float) -> None:
        """Continue from ``offset``, but not before ``newest``, the steady time of the newest commit.

        An earlier wall clock is implausible (a board without a clock chip); timers then continue with the time they had
        left.
        """
        self._clock = clock
        wall = clock.now().timestamp()
        self._anchor = Anchor(
            wall=wall, monotonic=clock.monotonic(), offset=offset if wall - offset >= newest else wall - newest
        )

    @property
    def offset(self) -> float:
        """The offset to store, for the clock after a restart."""
        return self._anchor.offset

    def now(self) -> float:
        """Return the steady time in seconds."""
        wall = self._clock.now().timestamp()
        # No lock: two threads that see the same jump store the same anchor.
        anchor = self._anchor = self._anchor.at(wall, self._clock.monotonic())
        return wall - anchor.offset
