"""Time under control: a clock whose wall time jumps, and an event loop that skips hours."""

import asyncio
import time
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from selectors import BaseSelector


class SkippingLoop(asyncio.SelectorEventLoop):
    """An event loop that can skip time: every timer that becomes due by it fires at once."""

    def __init__(self, selector: BaseSelector | None = None) -> None:
        """Begin with the machine's time; ``selector``: waits for files and timers (None: the system's)."""
        self.skipped = 0.0
        super().__init__(selector)

    def time(self) -> float:
        """Return the machine's monotonic time plus what was skipped."""
        return super().time() + self.skipped

    def skip(self, seconds: float) -> None:
        """Skip ``seconds``, as a suspended machine does."""
        self.skipped += seconds


@dataclass(slots=True)
class ShiftableClock:
    """The clock of a gateway under test: follows its loop's time; ``shift`` moves the wall time alone."""

    _loop: SkippingLoop
    _shifted: float = 0.0

    def shift(self, seconds: float) -> None:
        """Let the wall clock jump, backwards if negative."""
        self._shifted += seconds

    def now(self) -> datetime:
        """Return the wall time in UTC."""
        return datetime.now(UTC) + timedelta(seconds=self._shifted + self._loop.skipped)

    def monotonic(self) -> float:
        """Return seconds that never decrease."""
        return time.monotonic() + self._loop.skipped
