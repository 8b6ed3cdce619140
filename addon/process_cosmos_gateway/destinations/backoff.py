"""How long to wait before the next try."""

FIRST_SECONDS = 1.0
CAP_SECONDS = 30.0
LONGEST_RETRY_AFTER = 900.0
"""A far side may ask for patience, but a slip of its operator must not silence alarms for a day."""

REFUSED_SECONDS = 900.0
"""A refused link needs a person; it is tried again nevertheless."""

_DOUBLINGS = 5


def next_delay(failures: int, jitter: float, retry_after: float | None = None) -> float:
    """Return seconds to wait after ``failures`` tries in a row (at least 1).

    ``jitter`` in [0, 1] spreads many sites over the upper half of the wait. ``retry_after`` is a lower bound.
    """
    ceiling = min(CAP_SECONDS, FIRST_SECONDS * 2.0 ** min(failures - 1, _DOUBLINGS))
    delay = ceiling * (1 + jitter) / 2
    return max(delay, min(retry_after or 0.0, LONGEST_RETRY_AFTER))
