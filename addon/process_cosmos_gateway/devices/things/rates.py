"""Rate limits for messages and descriptions of devices: functions of values, no I/O."""

from collections import deque
from dataclasses import dataclass, field

RATE = 200.0
"""Messages a second that one device may send continuously; a tenth of what the gateway handles in all."""

BURST = 2000.0
"""Messages one device may send at once: a backlog after an outage."""

URGENT_RATE, URGENT_BURST = 50.0, 500.0
"""A separate limit for states and device events: each may be an event for destinations."""

BYTES_PER_MESSAGE = 2048
"""A message costs one more for each of these: a backlog of 4 MB, the limit of pending writes, is allowed."""

RECORDS_PER_MESSAGE = 50
"""A message costs one more for each of so many SenML records: 10,000 records a second are allowed."""

_MINUTE = 60.0


@dataclass(slots=True, kw_only=True)
class TokenBucket:
    """A token bucket; times are monotonic seconds."""

    rate: float
    burst: float
    level: float = field(init=False)
    at: float = 0.0

    def __post_init__(self) -> None:
        """Begin with a full bucket."""
        self.level = self.burst

    def has_tokens(self, now: float) -> bool:
        """Return whether any token is left."""
        self.level = min(self.burst, self.level + (now - self.at) * self.rate)
        self.at = now
        return self.level > 0.0

    def spend(self, cost: float, now: float) -> bool:
        """Spend ``cost`` if any token is left; the level may become negative. Return whether it was spent."""
        if not self.has_tokens(now):
            return False
        self.level -= cost
        return True


@dataclass(slots=True)
class DeviceRate:
    """The message budget of one device.

    States (booleans, availability) and device events may be urgent: they have a bucket of their own, which readings
    cannot empty, and may use that of readings too.
    """

    readings: TokenBucket = field(default_factory=lambda: TokenBucket(rate=RATE, burst=BURST))
    urgent: TokenBucket = field(default_factory=lambda: TokenBucket(rate=URGENT_RATE, burst=URGENT_BURST))

    def allow(self, size: int, now: float, *, may_be_urgent: bool) -> bool:
        """Return whether a message of ``size`` bytes is within the budget, and charge it."""
        cost = 1.0 + size // BYTES_PER_MESSAGE
        if may_be_urgent and self.urgent.spend(cost, now):
            return True
        return self.readings.spend(cost, now)

    def would_allow(self, now: float, *, may_be_urgent: bool) -> bool:
        """Return whether a message would be within the budget."""
        return (may_be_urgent and self.urgent.has_tokens(now)) or self.readings.has_tokens(now)


class SlidingWindow:
    """A limit of events within any minute."""

    def __init__(self, most: int) -> None:
        """Allow ``most`` events within a minute."""
        self._most = most
        self._times: deque[float] = deque()

    def wait(self, now: float) -> float:
        """Return the seconds until the next event is allowed; 0: now."""
        while self._times and now - self._times[0] >= _MINUTE:
            self._times.popleft()
        return 0.0 if len(self._times) < self._most else self._times[0] + _MINUTE - now

    def note(self, now: float) -> None:
        """Record an event at ``now``."""
        self._times.append(now)
