"""The ledger: what was sent, what its sender was told is safe, and what arrived where."""

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from process_cosmos_gateway.contract.destinations import Priority

LONGEST_WAY = 30.0
"""Seconds a reading may wait at the broker for a gateway that is down or slow."""

UNNUMBERED = 0
"""The number of arrivals without one: equal items, of which each new event counts as one more."""


class Item(NamedTuple):
    """One item that a producer sends: its number counts within ``key`` (an alert or a device) and priority.

    Greetings, which are not judged, have numbers below 0.
    """

    priority: Priority
    key: str
    number: int

    def __str__(self) -> str:
        """Return the item as reports show it."""
        return f"{self.priority} {self.key} #{self.number}"


@dataclass(slots=True)
class Attempt:
    """How sending an item went. Times are monotonic.

    ``sent_at``: when it was due, however long it then waited for its connection. ``doubted``: a connection ended before
    its acknowledgement came. ``arrived_at``: at the first destination that reports times.
    """

    sent_at: float
    acknowledged_at: float | None = None
    doubted: bool = False
    arrived_at: float | None = None

    def waited(self, now: float) -> float:
        """Return the seconds until the acknowledgement, or until ``now`` if there is none."""
        return (now if self.acknowledged_at is None else self.acknowledged_at) - self.sent_at


@dataclass(frozen=True, slots=True, kw_only=True)
class Arrival:
    """An item reached a destination in the event ``event``; ``at``: the item's own time, where it has one.

    ``fresh``: the destination accepted the event as new. ``marked``: the event says that it may be a repeat.
    """

    item: Item
    event: str
    fresh: bool
    at: float | None = None
    marked: bool = False


@dataclass(slots=True)
class Ledger:
    """Records of one run after the other. It never asks the gateway anything; ``judge.py`` judges it."""

    bound: float
    """Seconds: readings acknowledged so shortly before a cut may be lost."""
    attempts: dict[Item, Attempt] = field(default_factory=dict)
    times: dict[Item, float] = field(default_factory=dict)
    """The time of each reading, as its device reported it."""
    arrivals: dict[str, list[Arrival]] = field(default_factory=lambda: defaultdict(list))
    alike: dict[tuple[str, str], dict[str, int]] = field(default_factory=lambda: defaultdict(dict))
    """By destination and key: the numbers assigned to events that arrived without one."""
    there: dict[str, set[Item]] = field(default_factory=lambda: defaultdict(set))
    cuts: list[float] = field(default_factory=list)
    """When a gateway was killed or lost its power."""
    broken: int = 0
    """How often a gateway's connection to the broker has ended, also by a kill."""
    rewound: bool = False
    """Whether a store was damaged or copied: it may not know what was sent, and sends readings in other batches."""
    refused: set[Item] = field(default_factory=set)
    """Items that a destination has rejected: they arrive late, when a person sends them again."""
    forgiven: set[Item] = field(default_factory=set)
    """Items of earlier runs, which are not judged again."""

    def attempt(self, item: Item, now: float, at: float | None = None) -> None:
        """Record that ``item`` is due, unless that is recorded; ``at``: a reading's own time."""
        self.attempts.setdefault(item, Attempt(now))
        if at is not None:
            self.times[item] = at

    def acknowledge(self, item: Item, now: float) -> None:
        """Record that the sender of ``item`` was told that it is safe."""
        attempt = self.attempts[item]
        attempt.acknowledged_at = attempt.acknowledged_at or now

    def doubt(self, item: Item) -> None:
        """Record that the sender of ``item`` cannot know whether it is safe."""
        if self.attempts[item].acknowledged_at is None:
            self.attempts[item].doubted = True

    def arrive(self, destination: str, arrival: Arrival, now: float | None = None) -> None:
        """Record an arrival; greetings count as known and are not judged."""
        if arrival.item.number == UNNUMBERED:
            known = self.alike[destination, arrival.item.key]
            number = known.setdefault(arrival.event, len(known) + 1)
            arrival = replace(arrival, item=arrival.item._replace(number=number))
        if arrival.item.number > 0:
            self.arrivals[destination].append(arrival)
        self.there[destination].add(arrival.item)
        attempt = self.attempts.get(arrival.item)
        if attempt is not None and now is not None:
            attempt.arrived_at = attempt.arrived_at or now

    def start_next_round(self) -> None:
        """Begin the next run: what was recorded so far counts as known, and is not judged again."""
        self.forgiven |= self.attempts.keys()
        self.attempts.clear()
        self.arrivals.clear()
        self.cuts.clear()
        self.broken = 0
        self.rewound = False

    def slowest(self, priority: Priority) -> float:
        """Return the longest time from due to the first destination for ``priority``, in seconds."""
        attempts = [attempt for item, attempt in self.attempts.items() if item.priority is priority]
        return max((each.arrived_at - each.sent_at for each in attempts if each.arrived_at is not None), default=0.0)

    def sent(self, priority: Priority, since: float, until: float) -> Sequence[Attempt]:
        """Return the attempts of ``priority`` that were due between two moments."""
        return [
            attempt
            for item, attempt in self.attempts.items()
            if item.priority is priority and since <= attempt.sent_at < until
        ]

    def missing_at(self, destination: str) -> Sequence[Item]:
        """Return the items that were acknowledged and have not arrived at ``destination``."""
        there = self.there[destination]
        return [
            item for item, attempt in self.attempts.items() if attempt.acknowledged_at is not None and item not in there
        ]

    def missing(self, destinations: Collection[str]) -> Mapping[Priority, Sequence[Item]]:
        """Return by priority the items that were acknowledged and have not arrived at all of ``destinations``."""
        missing: dict[Priority, list[Item]] = {priority: [] for priority in Priority}
        for item in dict.fromkeys(item for name in destinations for item in self.missing_at(name)):
            missing[item.priority].append(item)
        return missing

    def may_be_lost(self, item: Item) -> bool:
        """Return whether ``item`` is a reading that the gateway may have had for less than the bound before a cut.

        The broker acknowledges a reading to the device and queues it while the gateway is down or slow, so that the
        gateway may have received it later; but not if an event that the device sent after it had arrived before the
        cut, since one commit contains both.
        """
        acknowledged = self.attempts[item].acknowledged_at or 0.0
        return item.priority is Priority.READING and any(
            cut - self.bound <= acknowledged <= cut
            or (cut - LONGEST_WAY <= acknowledged <= cut and not self._arrived_between(item.key, acknowledged, cut))
            for cut in self.cuts
        )

    def _arrived_between(self, key: str, since: float, until: float) -> bool:
        changes = (
            attempt for item, attempt in self.attempts.items() if item.key == key and item.priority is Priority.CHANGE
        )
        return any(
            each.sent_at >= since and each.arrived_at is not None and each.arrived_at < until for each in changes
        )
