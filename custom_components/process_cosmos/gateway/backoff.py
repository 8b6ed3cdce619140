"""Delays between attempts to connect to the gateway."""

FIRST_DELAY = 0.25
"""Seconds after the first failure: a gateway restarts in 2 s."""

MAX_DELAY = 5.0
"""Maximum seconds between attempts: the gateway is in the local network, and devices depend on it."""


def next_delay(failures: int, jitter: float) -> float:
    """Return the seconds to wait after ``failures`` (≥ 1) in a row; ``jitter`` (0 to 1) subtracts up to half."""
    # The exponent is limited, because a float cannot represent 2 ** 1024.
    longest = min(MAX_DELAY, FIRST_DELAY * float(2 ** min(failures - 1, 10)))
    return longest * (1 - jitter / 2)
