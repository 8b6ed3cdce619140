"""Rules without I/O: which events may be sent next, in what order, and when a failed one is retried."""

from collections import deque
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from process_cosmos_gateway.contract.destinations import Priority

from .model import Delivery


@dataclass(frozen=True, slots=True)
class Candidate:
    """An event that a destination has not settled. ``failures`` 0: never sent, or held back behind a failed one."""

    sequence: int
    key: str
    failures: int = 0


def sendable(candidates: Iterable[Candidate], backing_off: Collection[int]) -> Iterator[Candidate]:
    """Yield those of ``candidates``, which are in sequence order, that may be sent now.

    A failed event blocks the later events of its key, and is itself held back while its number is in ``backing_off``.
    """
    blocked: set[str] = set()
    for candidate in candidates:
        if candidate.key in blocked:
            continue
        if candidate.failures:
            # Also if it is sent now: should it fail again, a later event of its key must not be delivered before it.
            blocked.add(candidate.key)
            if candidate.sequence in backing_off:
                continue
        yield candidate


GUARANTEED: Mapping[Priority, float] = {Priority.READING: 0.12, Priority.CHANGE: 0.24}
"""Minimum shares of the link: above the promised tenth and fifth, because the first 64 KiB are not counted."""

_UNGUARDED_BYTES = 64 << 10
_MAX_COUNTED_BYTES = 1 << 20


def compose_batch(
    waiting: Mapping[Priority, Sequence[Delivery]], sent: Mapping[Priority, float], limit: int
) -> Sequence[Delivery]:
    """Return at most ``limit`` deliveries, most urgent priority first, except one below its guaranteed share.

    ``sent``: bytes recently delivered per priority while more than one priority was waiting.
    """
    queues = {priority: deque(deliveries) for priority, deliveries in waiting.items() if deliveries}
    totals = {priority: sent.get(priority, 0.0) for priority in Priority}
    chosen: list[Delivery] = []
    while queues and len(chosen) < limit:
        counted = sum(totals.values()) - _UNGUARDED_BYTES
        starving = (each for each, minimum in GUARANTEED.items() if each in queues and totals[each] < minimum * counted)
        priority = next(starving, None) or next(each for each in Priority if each in queues)
        chosen.append(queues[priority].popleft())
        totals[priority] += len(chosen[-1].body)
        if not queues[priority]:
            del queues[priority]
        if len(queues) == 1:
            [remaining] = queues.values()
            chosen += list(remaining)[: limit - len(chosen)]
            break
    return chosen


def add_sent_bytes(sent: Mapping[Priority, float], more: Mapping[Priority, int]) -> Mapping[Priority, float]:
    """Return ``sent`` plus ``more``, in bytes, halved while the total exceeds 1 MiB: old traffic loses weight."""
    totals = {priority: sent.get(priority, 0.0) + more.get(priority, 0) for priority in Priority}
    while sum(totals.values()) > _MAX_COUNTED_BYTES:
        totals = {priority: total / 2 for priority, total in totals.items()}
    return totals
