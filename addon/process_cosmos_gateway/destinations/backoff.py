"""The delay before a failed request is repeated."""

FIRST_SECONDS = 1.0
CAP_SECONDS = 30.0
LONGEST_RETRY_AFTER = 900.0
"""Upper bound of a receiver's ``Retry-After``: an operator's mistake must not hold back urgent events for a day."""

REFUSED_SECONDS = 900.0
"""Seconds between attempts on a refused link, which needs a person and is still tried."""

# The cap is reached after five doublings; without a limit the power would overflow a float in a long outage.
_DOUBLINGS = 5


def next_delay(failures: int, jitter: float, retry_after: float | None = None) -> float:
    """Return the seconds to wait after ``failures`` consecutive failures (at least 1).

    ``jitter`` in [0, 1] spreads many sites over the upper half of the delay. ``retry_after`` is a lower bound.
    """
    ceiling = min(CAP_SECONDS, FIRST_SECONDS * 2.0 ** min(failures - 1, _DOUBLINGS))
    delay = ceiling * (1 + jitter) / 2
    return max(delay, min(retry_after or 0.0, LONGEST_RETRY_AFTER))
