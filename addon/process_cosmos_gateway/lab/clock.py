"""Time that can be moved: a clock whose wall time jumps, and an event loop that leaves hours out."""

import asyncio
import time
from datetime import UTC, datetime, timedelta
from selectors import BaseSelector


class SkippingLoop(asyncio.SelectorEventLoop):
    """An event loop that can be told to leave time out: every timer due by then fires at once."""

    def __init__(self, selector: BaseSelector | None = None) -> None:
        """Begin with the machine's time; ``selector``: waits for files and timers (None: the system's)."""
        self.skipped = 0.0
        super().__init__(selector)

    def time(self) -> float:
        """Return the machine's monotonic time and what was left out."""
        return super().time() + self.skipped

    def skip(self, seconds: float) -> None:
        """Leave ``seconds`` out, as a suspended machine does."""
        self.skipped += seconds


class ShiftableClock:
    """The clock of a gateway under test: goes with its loop's time; ``shift`` moves the wall time alone."""

    def __init__(self, loop: SkippingLoop) -> None:
        """Begin with the machine's time."""
        self._loop = loop
        self._shifted = 0.0

    def shift(self, seconds: float) -> None:
        """Let the wall clock jump, back if negative."""
        self._shifted += seconds

    def now(self) -> datetime:
        """Return the wall time, in UTC."""
        return datetime.now(UTC) + timedelta(seconds=self._shifted + self._loop.skipped)

    def monotonic(self) -> float:
        """Return seconds since some moment; never goes back."""
        return time.monotonic() + self._loop.skipped
