"""The exponential pause between attempts; destinations, events, the broker and writes to devices use it."""

_MOST_DOUBLINGS = 32
"""Without a limit the power would overflow a float in a long outage."""


def exponential_delay(failures: int, first: float, longest: float, jitter: float = 1.0) -> float:
    """Return the seconds to wait after ``failures`` (at least 1) in a row: ``first``, twice that, …, ``longest``.

    ``jitter`` in [0, 1] spreads many sites over the upper half of the delay.
    """
    return min(longest, first * 2.0 ** min(failures - 1, _MOST_DOUBLINGS)) * (1 + jitter) / 2
