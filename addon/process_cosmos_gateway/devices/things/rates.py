"""How much each device may say, and how fast strangers' descriptions are read: functions of values, no I/O."""

from collections import deque
from dataclasses import dataclass, field

RATE = 200.0
"""Messages a second one device may send for long; a tenth of what the gateway takes in all."""

BURST = 2000.0
"""Messages one device may send at once: a backlog after an outage."""

ALARM_RATE, ALARM_BURST = 50.0, 500.0
"""States and device events have so many for themselves: each may be an event for destinations."""

BYTES_OF_A_MESSAGE = 2048
"""A message counts once for each of these: a backlog of 4 MB, as much as waits to be written, is no flood."""

RECORDS_OF_A_MESSAGE = 50
"""A message counts once for each of so many SenML records too: 10,000 records a second are no flood."""

_MINUTE = 60.0


@dataclass(slots=True, kw_only=True)
class Bucket:
    """A token bucket; times are monotonic seconds."""

    rate: float
    burst: float
    level: float = field(init=False)
    at: float = 0.0

    def __post_init__(self) -> None:
        """Begin with ``level`` at ``burst``."""
        self.level = self.burst

    def has_any(self, now: float) -> bool:
        """Say whether anything may be taken."""
        self.level = min(self.burst, self.level + (now - self.at) * self.rate)
        self.at = now
        return self.level > 0.0

    def take(self, cost: float, now: float) -> bool:
        """Take ``cost`` if anything is there; what costs more than that is paid back by later ones."""
        if not self.has_any(now):
            return False
        self.level -= cost
        return True


@dataclass(slots=True)
class DeviceRate:
    """What one device may still say.

    States (booleans, availability) and device events may be alarms: they have a bucket of their own, which readings
    cannot empty, and use the readings' one too.
    """

    readings: Bucket = field(default_factory=lambda: Bucket(rate=RATE, burst=BURST))
    alarms: Bucket = field(default_factory=lambda: Bucket(rate=ALARM_RATE, burst=ALARM_BURST))

    def admit(self, size: int, now: float, *, may_be_urgent: bool) -> bool:
        """Say whether a message of ``size`` bytes is taken."""
        cost = 1.0 + size // BYTES_OF_A_MESSAGE
        if may_be_urgent and self.alarms.take(cost, now):
            return True
        return self.readings.take(cost, now)

    def may(self, now: float, *, may_be_urgent: bool) -> bool:
        """Say whether a message would be taken."""
        return (may_be_urgent and self.alarms.has_any(now)) or self.readings.has_any(now)


class Window:
    """Lets so many pass within any minute."""

    def __init__(self, most: int) -> None:
        """Let ``most`` pass within a minute."""
        self._most = most
        self._passed: deque[float] = deque()

    def wait(self, now: float) -> float:
        """Return the seconds until the next one may pass, 0: it may now."""
        while self._passed and now - self._passed[0] >= _MINUTE:
            self._passed.popleft()
        return 0.0 if len(self._passed) < self._most else self._passed[0] + _MINUTE - now

    def note(self, now: float) -> None:
        """Note that one has passed."""
        self._passed.append(now)
