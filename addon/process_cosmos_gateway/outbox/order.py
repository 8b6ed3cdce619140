"""Which events may go next, in what order, and when one that failed may try again: decisions without I/O."""

from collections import deque
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from process_cosmos_gateway.contract.destinations import Priority

from .model import Delivery


@dataclass(frozen=True, slots=True)
class Candidate:
    """An event a destination has not settled. ``failures`` 0: never tried, or only held back."""

    sequence: int
    key: str
    failures: int = 0


def sendable(candidates: Iterable[Candidate], backing_off: Collection[int]) -> Iterator[Candidate]:
    """Yield, of ``candidates`` in order, those that may be sent now.

    An event that failed goes alone of its key, and only when it does not rest; the later ones of its key wait.
    """
    blocked: set[str] = set()
    for candidate in candidates:
        if candidate.key in blocked:
            continue
        if candidate.failures:
            blocked.add(candidate.key)
            if candidate.sequence in backing_off:
                continue
        yield candidate


def rest(failures: int, longest: float) -> float:
    """Return how many seconds an event rests after its ``failures``-th failure: 1, 2, 4, … ``longest``."""
    return float(min(longest, 2 ** min(failures - 1, 32)))


GUARANTEED: Mapping[Priority, float] = {Priority.READING: 0.12, Priority.CHANGE: 0.24}
"""A little more than the parts promised, a tenth and a fifth, because the first bytes do not count."""

_FREE_OF_GUARD = 64 << 10
_REMEMBERED = 1 << 20


def compose(
    waiting: Mapping[Priority, Sequence[Delivery]], sent: Mapping[Priority, float], limit: int
) -> Sequence[Delivery]:
    """Return at most ``limit`` parcels, alarms first, but for those that have less than is guaranteed to them.

    ``sent``: bytes lately delivered while more than one priority waited.
    """
    kept = {priority: deque(deliveries) for priority, deliveries in waiting.items() if deliveries}
    totals = {priority: sent.get(priority, 0.0) for priority in Priority}
    chosen: list[Delivery] = []
    while kept and len(chosen) < limit:
        counting = sum(totals.values()) - _FREE_OF_GUARD
        starving = (each for each, part in GUARANTEED.items() if each in kept and totals[each] < part * counting)
        priority = next(starving, None) or next(each for each in Priority if each in kept)
        chosen.append(kept[priority].popleft())
        totals[priority] += len(chosen[-1].body)
        if not kept[priority]:
            del kept[priority]
        if len(kept) == 1:
            [(_, rest_of_it)] = kept.items()
            chosen += list(rest_of_it)[: limit - len(chosen)]
            break
    return chosen


def remember(sent: Mapping[Priority, float], more: Mapping[Priority, int]) -> Mapping[Priority, float]:
    """Return what was lately delivered, with ``more``; what is long ago counts less and less."""
    totals = {priority: sent.get(priority, 0.0) + more.get(priority, 0) for priority in Priority}
    while sum(totals.values()) > _REMEMBERED:
        totals = {priority: total / 2 for priority, total in totals.items()}
    return totals
