"""How much of the disk the outbox may take: decisions without I/O."""

from collections.abc import Mapping

from process_cosmos_gateway.contract.destinations import Priority

MB = 1 << 20
READING_BYTES = 48
"""What a waiting reading counts for: its row, give or take a few bytes."""

ID_BYTES = 48
"""What a remembered id counts for."""

_MOST = 2048 * MB
_PART_OF_FREE = 5
_LEAST_FOR_ALARMS = 64 * MB
_WEIGHTS = {Priority.ALARM: 2, Priority.CHANGE: 3, Priority.MEASUREMENT: 5}


def default_quotas(free_bytes: int) -> Mapping[Priority, int]:
    """Return bytes per priority for a disk with so much free: a fifth of it and 2 GB at most, but 64 MB for alarms.

    On a disk too small for both the alarms' 64 MB count: they are what the outbox is for.
    """
    whole = min(_MOST, max(0, free_bytes) // _PART_OF_FREE)
    alarms = max(_LEAST_FOR_ALARMS, whole * _WEIGHTS[Priority.ALARM] // 10)
    rest = max(0, whole - alarms)
    changes = rest * _WEIGHTS[Priority.CHANGE] // 8
    return {Priority.ALARM: alarms, Priority.CHANGE: changes, Priority.MEASUREMENT: rest - changes}


def share(quota: int, destinations: int) -> int:
    """Return the bytes of a quota that may wait for one of so many destinations."""
    return quota // max(1, destinations)


def refused_by_disk(priority: Priority, free: int, reserve: int) -> bool:
    """Say whether ``priority`` has to stay out, so that what is free lasts for the more important."""
    reserves = {Priority.ALARM: 0, Priority.CHANGE: 2, Priority.MEASUREMENT: 3}[priority]
    return free < reserves * reserve
