"""How much each device may say, and how fast strangers' descriptions are read: functions of values, no I/O."""

from collections import deque
from dataclasses import dataclass, field

RATE = 200.0
"""Messages a second one device may send for long; a tenth of what the gateway takes in all."""

BURST = 2000.0
"""Messages one device may send at once: a backlog after an outage."""

URGENT_RATE, URGENT_BURST = 50.0, 500.0
"""States and device events have so many for themselves: each may be an event for destinations."""

BYTES_PER_MESSAGE = 2048
"""A message counts once for each of these: a backlog of 4 MB, as much as waits to be written, is no flood."""

RECORDS_PER_MESSAGE = 50
"""A message counts once for each of so many SenML records too: 10,000 records a second are no flood."""

_MINUTE = 60.0


@dataclass(slots=True, kw_only=True)
class TokenBucket:
    """A token bucket; times are monotonic seconds."""

    rate: float
    burst: float
    level: float = field(init=False)
    at: float = 0.0

    def __post_init__(self) -> None:
        """Begin with ``level`` at ``burst``."""
        self.level = self.burst

    def has_tokens(self, now: float) -> bool:
        """Say whether anything may be taken."""
        self.level = min(self.burst, self.level + (now - self.at) * self.rate)
        self.at = now
        return self.level > 0.0

    def spend(self, cost: float, now: float) -> bool:
        """Take ``cost`` if anything is there; what costs more than that is paid back by later ones."""
        if not self.has_tokens(now):
            return False
        self.level -= cost
        return True


@dataclass(slots=True)
class DeviceRate:
    """What one device may still say.

    States (booleans, availability) and device events may be urgent: they have a bucket of their own, which readings
    cannot empty, and use the readings' one too.
    """

    readings: TokenBucket = field(default_factory=lambda: TokenBucket(rate=RATE, burst=BURST))
    urgent: TokenBucket = field(default_factory=lambda: TokenBucket(rate=URGENT_RATE, burst=URGENT_BURST))

    def allow(self, size: int, now: float, *, may_be_urgent: bool) -> bool:
        """Say whether a message of ``size`` bytes is taken."""
        cost = 1.0 + size // BYTES_PER_MESSAGE
        if may_be_urgent and self.urgent.spend(cost, now):
            return True
        return self.readings.spend(cost, now)

    def would_allow(self, now: float, *, may_be_urgent: bool) -> bool:
        """Say whether a message would be taken."""
        return (may_be_urgent and self.urgent.has_tokens(now)) or self.readings.has_tokens(now)


class SlidingWindow:
    """Lets so many pass within any minute."""

    def __init__(self, most: int) -> None:
        """Let ``most`` pass within a minute."""
        self._most = most
        self._times: deque[float] = deque()

    def wait(self, now: float) -> float:
        """Return the seconds until the next one may pass, 0: it may now."""
        while self._times and now - self._times[0] >= _MINUTE:
            self._times.popleft()
        return 0.0 if len(self._times) < self._most else self._times[0] + _MINUTE - now

    def note(self, now: float) -> None:
        """Note that one has passed."""
        self._times.append(now)
