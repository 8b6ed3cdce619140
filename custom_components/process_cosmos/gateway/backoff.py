"""How long to wait before the next attempt at the gateway."""

FIRST = 0.25
"""Seconds after the first failure: a gateway restarts in 2 s."""

MOST = 5.0
"""Seconds between attempts at a gateway that stays away: it is near, and devices wait for it."""


def next_delay(failures: int, jitter: float) -> float:
    """Return seconds to wait after ``failures`` (≥ 1) in a row; ``jitter`` (0 to 1) takes up to half of them off."""
    longest = min(MOST, FIRST * float(2 ** min(failures - 1, 10)))
    return longest * (1 - jitter / 2)
