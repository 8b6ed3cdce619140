"""The delay of messages on the link from the gateway, whose clock is not that of Home Assistant."""

from math import inf

_WINDOW = 60.0
"""Seconds after which the shortest delay is taken anew; two clocks may drift apart by 0.1 ms a second."""


class LinkDelay:
    """Computes how much longer than the shortest of the last one or two minutes a message was on its way."""

    def __init__(self) -> None:
        """Begin without a message."""
        self._least = self._before = inf
        self._begun = -inf

    def measure(self, sent: float, arrived: float) -> float:
        """Return the delay in seconds; ``sent`` on the gateway's monotonic clock, ``arrived`` on our own."""
        if arrived - self._begun >= _WINDOW:
            self._before, self._least, self._begun = self._least, inf, arrived
        difference = arrived - sent
        self._least = min(self._least, difference)
        return difference - min(self._least, self._before)
