"""How much of the disk the outbox may take: decisions without I/O."""

from collections.abc import Mapping
from dataclasses import dataclass

from process_cosmos_gateway.contract.destinations import Priority

MB = 1 << 20
READING_BYTES = 48
"""What a waiting reading counts for: its row, give or take a few bytes."""

ID_BYTES = 48
"""What a remembered id counts for."""

_MOST = 2048 * MB
_PART_OF_FREE = 5
_LEAST = {Priority.URGENT: 64 * MB, Priority.CHANGE: 16 * MB, Priority.READING: 16 * MB}
_WEIGHTS = {Priority.URGENT: 2, Priority.CHANGE: 3, Priority.READING: 5}
_RESERVES = {Priority.URGENT: 0, Priority.CHANGE: 2, Priority.READING: 3}
_PART_FREED = 50
_LEAST_FOR_IDS = 4 * MB
_PART_FOR_IDS = 8

type Backlogs = Mapping[tuple[str, str], int]
"""Bytes that wait, by destination and priority; a destination without any has entries of 0."""


def default_quotas(free_bytes: int) -> Mapping[Priority, int]:
    """Return bytes per priority for a disk with so much free: a fifth of it and 2 GB at most.

    Each priority has a minimum, also on a small disk: ``refused_by_disk`` decides what a nearly full one takes.
    """
    whole = min(_MOST, max(0, free_bytes) // _PART_OF_FREE)
    alarms = max(_LEAST[Priority.URGENT], whole * _WEIGHTS[Priority.URGENT] // 10)
    rest = max(0, whole - alarms)
    changes = rest * _WEIGHTS[Priority.CHANGE] // 8
    computed = {Priority.URGENT: alarms, Priority.CHANGE: changes, Priority.READING: rest - changes}
    return {priority: max(size, _LEAST[priority]) for priority, size in computed.items()}


def quotas_now(
    free: int, reserve: int, backlogs: Backlogs, fixed: Mapping[Priority, int]
) -> tuple[Mapping[Priority, int], frozenset[Priority]]:
    """Return the bytes per priority of all destinations, and the priorities whose backlogs stay when it shrinks.

    ``free``: bytes that can be written now. The quotas follow what would be free if nothing waited, so that an outbox
    does not shrink its own share by filling it. ``fixed`` quotas, from the options, stay as they are. Once less than
    ``reserve`` is free, waiting readings have to make up the difference: alarms need it.
    """
    waiting: dict[str, int] = dict.fromkeys(Priority, 0)
    for (_, priority), size in backlogs.items():
        waiting[priority] = max(size, waiting[priority])
    quotas = {**default_quotas(free + sum(waiting.values())), **fixed}
    keeps_backlog = frozenset({Priority.CHANGE, Priority.READING} - fixed.keys())
    if free >= reserve:
        return quotas, keeps_backlog
    destinations = max(1, len({name for name, _ in backlogs}))
    left = max(0, waiting[Priority.READING] - (reserve - free))
    quotas[Priority.READING] = min(quotas[Priority.READING], left * destinations)
    return quotas, keeps_backlog - {Priority.READING}


def share(quota: int, destinations: int) -> int:
    """Return the bytes of a quota that may wait for one of so many destinations."""
    return quota // max(1, destinations)


@dataclass(frozen=True, slots=True)
class Bound:
    """Above ``most`` bytes the oldest are given up until no more than ``target`` are left."""

    most: int
    target: int


def bound(share_bytes: int, before: int = 0, *, keeps: bool = False) -> Bound:
    """Return the bound of a destination's backlog that took ``before`` bytes until now.

    ``keeps``: a backlog longer than its share, which shrank meanwhile, stays as long as it is. What was accepted is not
    given up because the disk is short of space for a while; the backlog only stops growing.
    """
    if keeps and before > share_bytes:
        return Bound(before, before)
    return Bound(share_bytes, share_bytes - share_bytes // _PART_FREED)


def id_quota(most: int, free: int, taken: int) -> int:
    """Return the bytes that remembered ids may take: an eighth of what would be free without them, at most ``most``."""
    return min(most, max(_LEAST_FOR_IDS, (free + taken) // _PART_FOR_IDS))


def refused_by_disk(priority: Priority, free: int, reserve: int) -> bool:
    """Return whether ``priority`` must be refused, so that what is free lasts for the more important."""
    return free < _RESERVES[priority] * reserve
