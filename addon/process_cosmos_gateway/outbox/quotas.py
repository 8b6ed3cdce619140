"""Rules without I/O for how many bytes of the disk the outbox may use."""

from collections.abc import Mapping
from dataclasses import dataclass

from process_cosmos_gateway.contract.destinations import Priority

MB = 1 << 20
READING_BYTES = 48
"""Bytes that a pending reading is counted as: the approximate size of its row."""

ID_BYTES = 48
"""Bytes that a known id is counted as."""

_MAX_TOTAL = 2048 * MB
_FREE_DIVISOR = 5
_MIN_QUOTAS = {Priority.URGENT: 64 * MB, Priority.CHANGE: 16 * MB, Priority.READING: 16 * MB}
_WEIGHTS = {Priority.URGENT: 2, Priority.CHANGE: 3, Priority.READING: 5}
# A filling disk refuses readings first, then changes; the reserve itself is left to urgent events.
_RESERVE_FACTORS = {Priority.URGENT: 0, Priority.CHANGE: 2, Priority.READING: 3}
_MARGIN_DIVISOR = 50
_MIN_ID_BYTES = 4 * MB
_ID_DIVISOR = 8

type Backlogs = Mapping[tuple[str, str], int]
"""Pending bytes by destination and priority; a destination without a backlog has entries of 0."""


def default_quotas(free_bytes: int) -> Mapping[Priority, int]:
    """Return bytes per priority: together a fifth of ``free_bytes``, at most 2 GiB.

    Each priority has a minimum even on a small disk; ``refused_by_disk`` decides what an almost full disk accepts.
    """
    total = min(_MAX_TOTAL, max(0, free_bytes) // _FREE_DIVISOR)
    urgent = max(_MIN_QUOTAS[Priority.URGENT], total * _WEIGHTS[Priority.URGENT] // 10)
    rest = max(0, total - urgent)
    changes = rest * _WEIGHTS[Priority.CHANGE] // 8
    computed = {Priority.URGENT: urgent, Priority.CHANGE: changes, Priority.READING: rest - changes}
    return {priority: max(size, _MIN_QUOTAS[priority]) for priority, size in computed.items()}


def current_quotas(
    free: int, reserve: int, backlogs: Backlogs, fixed: Mapping[Priority, int]
) -> tuple[Mapping[Priority, int], frozenset[Priority]]:
    """Return the bytes per priority for all destinations, and the priorities whose backlog is kept when that shrinks.

    ``free``: bytes that can be written now. The quotas follow the space that would be free if nothing were pending, so
    that a growing backlog does not shrink its own quota. ``fixed`` quotas come from the options and do not change. When
    less than ``reserve`` is free, readings must give up the difference from their backlog: urgent events need it.
    """
    waiting: dict[str, int] = dict.fromkeys(Priority, 0)
    for (_, priority), size in backlogs.items():
        # One row serves all destinations, so the disk holds about as much as the longest backlog.
        waiting[priority] = max(size, waiting[priority])
    quotas = {**default_quotas(free + sum(waiting.values())), **fixed}
    keeps_backlog = frozenset({Priority.CHANGE, Priority.READING} - fixed.keys())
    if free >= reserve:
        return quotas, keeps_backlog
    destinations = max(1, len({name for name, _ in backlogs}))
    left = max(0, waiting[Priority.READING] - (reserve - free))
    quotas[Priority.READING] = min(quotas[Priority.READING], left * destinations)
    return quotas, keeps_backlog - {Priority.READING}


def share_per_destination(quota: int, destinations: int) -> int:
    """Return the bytes of ``quota`` available to each of ``destinations``."""
    return quota // max(1, destinations)


@dataclass(frozen=True, slots=True)
class Watermarks:
    """Bounds of a backlog in bytes: above ``high`` the oldest events are dropped until at most ``low`` are left."""

    high: int
    low: int


def watermarks(share_bytes: int, before: int = 0, *, keeps: bool = False) -> Watermarks:
    """Return the watermarks of a destination's backlog that has ``before`` bytes now.

    ``keeps``: a backlog larger than its share keeps its size. Accepted events are not dropped because the disk is short
    of space for a while; the backlog only stops growing.
    """
    if keeps and before > share_bytes:
        return Watermarks(before, before)
    return Watermarks(share_bytes, share_bytes - share_bytes // _MARGIN_DIVISOR)


def id_quota(max_bytes: int, free: int, taken: int) -> int:
    """Return the bytes for known ids: an eighth of the space free without them, from 4 MiB up to ``max_bytes``."""
    return min(max_bytes, max(_MIN_ID_BYTES, (free + taken) // _ID_DIVISOR))


def refused_by_disk(priority: Priority, free: int, reserve: int) -> bool:
    """Return whether to refuse ``priority``, so that the free space is left to more urgent priorities."""
    return free < _RESERVE_FACTORS[priority] * reserve
