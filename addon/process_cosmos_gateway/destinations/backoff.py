"""The delay before a failed request is repeated."""

from process_cosmos_gateway.backoff import exponential_delay

FIRST_SECONDS = 1.0
CAP_SECONDS = 30.0
LONGEST_RETRY_AFTER = 900.0
"""Upper bound of a receiver's ``Retry-After``: an operator's mistake must not hold back urgent events for a day."""

REFUSED_SECONDS = 900.0
"""Seconds between attempts on a refused link, which needs a person and is still tried."""


def next_delay(failures: int, jitter: float, retry_after: float | None = None) -> float:
    """Return the seconds to wait after ``failures`` consecutive failures (at least 1).

    ``jitter`` in [0, 1] spreads many sites over the upper half of the delay. ``retry_after`` is a lower bound.
    """
    delay = exponential_delay(failures, FIRST_SECONDS, CAP_SECONDS, jitter)
    return max(delay, min(retry_after or 0.0, LONGEST_RETRY_AFTER))
