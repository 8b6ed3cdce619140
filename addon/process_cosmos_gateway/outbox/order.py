"""Which events may go next, and when one that failed may try again: decisions without I/O."""

from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Candidate:
    """An event a destination has not settled. ``failures`` 0: never tried, or only held back."""

    sequence: int
    key: str
    failures: int = 0


def sendable(candidates: Iterable[Candidate], resting: Collection[int]) -> Iterator[Candidate]:
    """Yield, of ``candidates`` in order, those that may be sent now.

    An event that failed goes alone of its key, and only when it does not rest; the later ones of its key wait.
    """
    blocked: set[str] = set()
    for candidate in candidates:
        if candidate.key in blocked:
            continue
        if candidate.failures:
            blocked.add(candidate.key)
            if candidate.sequence in resting:
                continue
        yield candidate


def rest(failures: int, longest: float) -> float:
    """Return how many seconds an event rests after its ``failures``-th failure: 1, 2, 4, … ``longest``."""
    return float(min(longest, 2 ** min(failures - 1, 32)))
