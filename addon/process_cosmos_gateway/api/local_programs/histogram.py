"""Counts of durations by length, for a histogram in ``/metrics``."""

import math
from bisect import bisect_left
from collections.abc import Iterator

_BOUNDS = (0.001, 0.0025, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 1.0, 10.0, math.inf)


class Durations:
    """Durations counted by their upper bounds in seconds; ``total``: their sum."""

    def __init__(self) -> None:
        """Begin without durations."""
        self.total = 0.0
        self._counts = [0] * len(_BOUNDS)

    def observe(self, seconds: float) -> None:
        """Count a duration."""
        self.total += seconds
        self._counts[bisect_left(_BOUNDS, seconds)] += 1

    def cumulative(self) -> Iterator[tuple[float, int]]:
        """Yield each bound with the number of durations up to it; the last bound is infinite."""
        count = 0
        for bound, within in zip(_BOUNDS, self._counts, strict=True):
            count += within
            yield bound, count
