"""A clock for timers: it follows the wall clock, but not its jumps."""

from dataclasses import dataclass

from process_cosmos_gateway.clock import Clock

LONGEST_ADJUSTMENT = 60.0
"""Seconds: a wall clock that goes by more than this beside the monotonic one has been set."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Anchor:
    """Where both clocks stood. Steady time is wall time less ``offset``, the sum of all jumps."""

    wall: float
    monotonic: float
    offset: float

    def at(self, wall: float, monotonic: float) -> Anchor:
        """Return the anchor for what the clocks show now: the same, unless the wall clock has jumped."""
        jump = (wall - self.wall) - (monotonic - self.monotonic)
        if abs(jump) <= LONGEST_ADJUSTMENT:
            return self
        return Anchor(wall=wall, monotonic=monotonic, offset=self.offset + jump)


class SteadyClock:
    """Seconds that timers count in, also across restarts; safe in any thread."""

    def __init__(self, clock: Clock, offset: float, newest: float) -> None:
        """Go on from ``offset``, and not before ``newest``, the steady time of the newest commit.

        A wall clock older than that is implausible (a board without a clock chip): what was left of timers counts.
        """
        self._clock = clock
        wall = clock.now().timestamp()
        self._anchor = Anchor(
            wall=wall, monotonic=clock.monotonic(), offset=offset if wall - offset >= newest else wall - newest
        )

    @property
    def offset(self) -> float:
        """What to go on from after a restart."""
        return self._anchor.offset

    def now(self) -> float:
        """Return the steady time."""
        wall = self._clock.now().timestamp()
        # Two threads that see the same jump write the same anchor: there is nothing to lock.
        anchor = self._anchor = self._anchor.at(wall, self._clock.monotonic())
        return wall - anchor.offset
