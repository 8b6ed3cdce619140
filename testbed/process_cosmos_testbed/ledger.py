"""What was sent, what was acknowledged to those who sent it, what arrived; and what follows from that."""

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from process_cosmos_gateway.contract.destinations import Priority

MOST_IN_COMMIT = 500
"""Messages of devices the gateway stores in one commit: so many may be repeated, marked, for each broken connection."""

LONGEST_WAY = 30.0
"""Seconds a reading may wait at the broker for a gateway that is down or slow."""


UNNUMBERED = 0
"""Stands for the number of what arrives without one: things alike, of which each new event is one more."""


class Item(NamedTuple):
    """One thing a producer said: its number counts within ``key`` (an alert or a device) and priority.

    Greetings, which nobody judges, have numbers below 0.
    """

    priority: Priority
    key: str
    number: int


@dataclass(slots=True)
class Attempt:
    """How sending went. Times are monotonic; ``doubted``: a connection ended before the acknowledgement came.

    ``sent_at``: when it was to be sent, however long it then waited for its connection.
    """

    sent_at: float
    acknowledged_at: float | None = None
    doubted: bool = False
    arrived_at: float | None = None
    """At the first destination that says when."""

    def waited(self, now: float) -> float:
        """Return the seconds until the acknowledgement; until ``now`` where none came."""
        return (now if self.acknowledged_at is None else self.acknowledged_at) - self.sent_at


@dataclass(frozen=True, slots=True, kw_only=True)
class Arrival:
    """An item reached a destination in the event ``event``; ``at``: the item's own time, where it has one.

    ``fresh``: the destination took the event as new. ``marked``: the event says that it may be a repeat.
    """

    item: Item
    event: str
    fresh: bool
    at: float | None = None
    marked: bool = False


@dataclass(slots=True, kw_only=True)
class Row:
    """A priority's result. ``lost``: acknowledged, arrived nowhere or not everywhere, and beyond the stated bound."""

    priority: Priority
    ok: int = 0
    lost: int = 0
    lost_within_bound: int = 0
    recovered: int = 0
    unknown: int = 0
    unexpected: int = 0
    duplicate_effects: int = 0
    order_violations: int = 0
    dropped_counted: int = 0
    repeats_absorbed: int = 0
    marked_repeats: int = 0


@dataclass(slots=True)
class Ledger:
    """Takes notes while a fault is played, then judges. It never asks the gateway anything."""

    bound: float
    """Seconds: measurements acknowledged so shortly before a cut may be lost."""
    attempts: dict[Item, Attempt] = field(default_factory=dict)
    times: dict[Item, float] = field(default_factory=dict)
    """The time of a reading, as its device said."""
    arrivals: dict[str, list[Arrival]] = field(default_factory=lambda: defaultdict(list))
    alike: dict[tuple[str, str], dict[str, int]] = field(default_factory=lambda: defaultdict(dict))
    """By destination and key: the numbers of events that arrived without one."""
    there: dict[str, set[Item]] = field(default_factory=lambda: defaultdict(set))
    cuts: list[float] = field(default_factory=list)
    """When a gateway was killed or its machine cut off."""
    broken: int = 0
    """How often a gateway's connection to the broker has ended, by a kill too."""
    rewound: bool = False
    """A store was damaged or copied: it may not know what was sent, and readings come again, in another pack."""
    refused: set[Item] = field(default_factory=set)
    """What a destination has refused for good: it comes when a person sends it again, whatever came meanwhile."""
    forgiven: set[Item] = field(default_factory=set)
    """Attempts of earlier faults: not judged again."""

    def attempt(self, item: Item, now: float, at: float | None = None) -> None:
        """Note that ``item`` is to be sent, the first time; ``at``: a reading's own time."""
        self.attempts.setdefault(item, Attempt(now))
        if at is not None:
            self.times[item] = at

    def acknowledge(self, item: Item, now: float) -> None:
        """Note that the one who sent it has been told that it is safe."""
        attempt = self.attempts[item]
        attempt.acknowledged_at = attempt.acknowledged_at or now

    def doubt(self, item: Item) -> None:
        """Note that the one who sent it cannot know."""
        if self.attempts[item].acknowledged_at is None:
            self.attempts[item].doubted = True

    def arrive(self, destination: str, arrival: Arrival, now: float | None = None) -> None:
        """Note that ``destination`` got something; greetings are not judged."""
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
        """Begin the next fault: what was noted so far counts as known, and is not judged again."""
        self.forgiven |= self.attempts.keys()
        self.attempts.clear()
        self.arrivals.clear()
        self.cuts.clear()
        self.broken = 0
        self.rewound = False

    def slowest(self, priority: Priority) -> float:
        """Return the longest an item of ``priority`` took to its first destination, in seconds."""
        arrived = [
            (attempt.arrived_at, attempt.sent_at)
            for item, attempt in self.attempts.items()
            if item.priority is priority
        ]
        return max((arrived_at - sent_at for arrived_at, sent_at in arrived if arrived_at is not None), default=0.0)

    def sent(self, priority: Priority, since: float, until: float) -> Sequence[Attempt]:
        """Return what was to be sent of ``priority`` between two moments."""
        return [
            attempt
            for item, attempt in self.attempts.items()
            if item.priority is priority and since <= attempt.sent_at < until
        ]

    def missing(self, destinations: Collection[str]) -> Mapping[Priority, Sequence[Item]]:
        """Return what was acknowledged and is not yet at every one of ``destinations``."""
        missing: dict[Priority, list[Item]] = {priority: [] for priority in Priority}
        for item, attempt in self.attempts.items():
            if attempt.acknowledged_at is not None and not self._is_everywhere(item, destinations):
                missing[item.priority].append(item)
        return missing

    def may_be_lost(self, item: Item) -> bool:
        """Say whether it is a reading that the gateway may have had for less than the bound before a cut.

        The broker has confirmed it to the device, and keeps it while the gateway is down or slow: it may have come
        later, unless something the device said after it was on disk before the cut, which takes it along.
        """
        acknowledged = self.attempts[item].acknowledged_at or 0.0
        return item.priority is Priority.READING and any(
            cut - self.bound <= acknowledged <= cut
            or (cut - LONGEST_WAY <= acknowledged <= cut and not self._heard(item.key, acknowledged, cut))
            for cut in self.cuts
        )

    def _heard(self, key: str, since: float, until: float) -> bool:
        changes = (
            attempt for item, attempt in self.attempts.items() if item.key == key and item.priority is Priority.CHANGE
        )
        return any(
            each.sent_at >= since and each.arrived_at is not None and each.arrived_at < until for each in changes
        )

    def judge(self, destinations: Collection[str], dropped: Mapping[Priority, int]) -> Sequence[Row]:
        """Weigh what was sent against what arrived at each of ``destinations``; ``dropped``: as the gateway counted."""
        rows = {priority: Row(priority=priority) for priority in Priority}
        for item, attempt in self.attempts.items():
            row, sure = rows[item.priority], attempt.acknowledged_at is not None and not attempt.doubted
            arrived = self._is_everywhere(item, destinations)
            row.ok += arrived and sure
            row.recovered += arrived and not sure
            row.unknown += not arrived and attempt.acknowledged_at is None
        for priority, missing in self.missing(destinations).items():
            self._weigh_missing(rows[priority], missing, dropped.get(priority, 0))
        for name in destinations:
            self._judge_destination(rows, self.arrivals[name])
        return tuple(rows.values())

    def _is_everywhere(self, item: Item, destinations: Collection[str]) -> bool:
        return all(item in self.there[name] for name in destinations)

    def _weigh_missing(self, row: Row, missing: Collection[Item], dropped: int) -> None:
        within = sum(map(self.may_be_lost, missing))
        row.lost_within_bound = within
        row.dropped_counted = min(dropped, len(missing) - within)
        row.lost = len(missing) - within - row.dropped_counted

    def _judge_destination(self, rows: Mapping[Priority, Row], arrivals: Iterable[Arrival]) -> None:
        first: dict[Item, Arrival] = {}
        marked = 0
        highest: dict[tuple[Priority, str], int] = {}
        for arrival in arrivals:
            item, row = arrival.item, rows[arrival.item.priority]
            if item in self.forgiven:
                continue
            if not arrival.fresh or (self.rewound and self._is_known_reading(arrival, first)):
                row.repeats_absorbed += 1
            elif item not in self.attempts or arrival.at != self.times.get(item):
                row.unexpected += 1
            elif item in first:
                marked += arrival.marked
                is_marked = arrival.marked and marked <= self.broken * MOST_IN_COMMIT
                row.marked_repeats += is_marked
                row.duplicate_effects += not is_marked
            else:
                first[item] = arrival
                line = (item.priority, item.key)
                row.order_violations += item.number < highest.get(line, -1) and item not in self.refused
                highest[line] = max(highest.get(line, -1), item.number)

    def _is_known_reading(self, arrival: Arrival, first: Mapping[Item, Arrival]) -> bool:
        """Say whether it is a reading a destination has: whose device, property, time and value it knows it merges."""
        known = first.get(arrival.item)
        return arrival.item.priority is Priority.READING and known is not None and known.at == arrival.at
