"""The judge: what follows from a ledger. Pure functions, so that tests can show them every kind of failure."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields

from process_cosmos_gateway.contract.destinations import Priority

from .ledger import Arrival, Item, Ledger

MOST_IN_COMMIT = 500
"""Device messages that the gateway stores in one commit: each broken connection may repeat so many, marked."""

SHOWN = 10
"""Missing items that a report names for each destination."""

PROMISES = ("lost", "unexpected", "duplicate_effects", "order_violations")
"""The counts that must be 0."""


@dataclass(slots=True, kw_only=True)
class Row:
    """The counts of one priority. ``lost``: acknowledged, missing somewhere, and beyond what the promise allows."""

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

    def counts(self) -> Iterator[tuple[str, int]]:
        """Yield the names and values of all counts above 0."""
        for column in fields(self)[1:]:
            if count := getattr(self, column.name):
                yield column.name, count


@dataclass(frozen=True, slots=True, kw_only=True)
class Judgement:
    """A row for each priority; where something is lost, the items that are ``missing`` at each destination."""

    rows: Sequence[Row]
    missing: Mapping[str, Sequence[Item]]

    @property
    def held(self) -> bool:
        """Whether every promise held."""
        return not any(getattr(row, promise) for row in self.rows for promise in PROMISES)

    def total(self, column: str) -> int:
        """Return the sum of a column."""
        return sum(getattr(row, column) for row in self.rows)

    def describe_missing(self) -> Iterator[str]:
        """Yield for each destination how many items are missing there, and the first ten."""
        for destination, items in self.missing.items():
            more = ", …" if len(items) > SHOWN else ""
            yield f"{len(items)} missing at {destination}: {', '.join(map(str, items[:SHOWN]))}{more}"


def judge(ledger: Ledger, destinations: Collection[str], dropped: Mapping[Priority, int]) -> Judgement:
    """Compare what was sent with what arrived at each of ``destinations``.

    ``dropped``: the events that the gateway counted as dropped, which are no loss.
    """
    rows = {priority: Row(priority=priority) for priority in Priority}
    for item, attempt in ledger.attempts.items():
        row, sure = rows[item.priority], attempt.acknowledged_at is not None and not attempt.doubted
        arrived = all(item in ledger.there[name] for name in destinations)
        row.ok += arrived and sure
        row.recovered += arrived and not sure
        row.unknown += not arrived and attempt.acknowledged_at is None
    for priority, missing in ledger.missing(destinations).items():
        row, within = rows[priority], sum(map(ledger.may_be_lost, missing))
        row.lost_within_bound = within
        row.dropped_counted = min(dropped.get(priority, 0), len(missing) - within)
        row.lost = len(missing) - within - row.dropped_counted
    for name in destinations:
        _judge_destination(ledger, rows, ledger.arrivals[name])
    return Judgement(rows=tuple(rows.values()), missing=_lost_items(ledger, rows, destinations))


def _lost_items(
    ledger: Ledger, rows: Mapping[Priority, Row], destinations: Collection[str]
) -> Mapping[str, Sequence[Item]]:
    found = {
        name: [item for item in ledger.missing_at(name) if rows[item.priority].lost and not ledger.may_be_lost(item)]
        for name in destinations
    }
    return {name: items for name, items in found.items() if items}


def _judge_destination(ledger: Ledger, rows: Mapping[Priority, Row], arrivals: Sequence[Arrival]) -> None:
    first: dict[Item, Arrival] = {}
    marked = 0
    highest: dict[tuple[Priority, str], int] = {}
    for arrival in arrivals:
        item, row = arrival.item, rows[arrival.item.priority]
        if item in ledger.forgiven:
            continue
        if not arrival.fresh or (ledger.rewound and _is_merged(arrival, first)):
            row.repeats_absorbed += 1
        elif item not in ledger.attempts or arrival.at != ledger.times.get(item):
            row.unexpected += 1
        elif item in first:
            marked += arrival.marked
            is_marked = arrival.marked and marked <= ledger.broken * MOST_IN_COMMIT
            row.marked_repeats += is_marked
            row.duplicate_effects += not is_marked
        else:
            first[item] = arrival
            key = (item.priority, item.key)
            row.order_violations += item.number < highest.get(key, -1) and item not in ledger.refused
            highest[key] = max(highest.get(key, -1), item.number)


def _is_merged(arrival: Arrival, first: Mapping[Item, Arrival]) -> bool:
    """Return whether the destination merges this reading: it has one of the same device, property, time and value."""
    known = first.get(arrival.item)
    return arrival.item.priority is Priority.READING and known is not None and known.at == arrival.at
