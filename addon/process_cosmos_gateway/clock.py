"""The one clock: wall time in UTC, and a monotonic time that no adjustment moves."""

import time
from datetime import UTC, datetime
from typing import Protocol


class Clock(Protocol):
    """Where every part of the gateway reads the time; the lab has one it can shift."""

    def now(self) -> datetime:
        """Return the wall time, in UTC."""

    def monotonic(self) -> float:
        """Return seconds since some moment; never goes back."""


class SystemClock:
    """The machine's clock."""

    def now(self) -> datetime:
        """Return the wall time, in UTC."""
        return datetime.now(UTC)

    def monotonic(self) -> float:
        """Return seconds since some moment; never goes back."""
        return time.monotonic()
