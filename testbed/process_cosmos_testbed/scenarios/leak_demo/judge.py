"""Judges what was observed: leaks, notifications and answers here, what arrived at destinations by the common judge.

Pure functions of records, so that tests can show them every kind of failure.
"""

from collections import Counter, defaultdict, deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Literal

from process_cosmos_gateway.contract.destinations import Priority
from process_cosmos_gateway.contract.devices import Value
from process_cosmos_testbed.judge import judge as judge_ledger
from process_cosmos_testbed.ledger import Arrival, Item, Ledger

from .evidence import (
    ActionRun,
    AlertOpened,
    DeviceEvent,
    EventArrival,
    Expected,
    Leak,
    Notified,
    Record,
    ValveCommand,
)

OPENED = "process_cosmos.alert.opened.v1"
CLOSING = tuple(f"process_cosmos.alert.{kind}.v1" for kind in ("answered", "unanswered", "resolved"))
_OTHER = ("updated", "acknowledged", "acknowledgement_expired", "rescheduled", "outcome", "restored", "reconciled")
TRANSITIONS = frozenset({OPENED, *CLOSING, *(f"process_cosmos.alert.{kind}.v1" for kind in _OTHER)})
"""The ordered changes of an alert; `asked` is none, its id comes from its key."""

VALVE_OPENED = "valve opened"
"""The effect of the answer "turn on again": no other action opens a valve."""

ONE_CLOSING = 0.5
"""Seconds within which two commands to close are one closing: after a start a sensor gets wet and its valve comes back
open in the same moment, and each triggers a run of its own. The write is idempotent; a third or a later one is not."""

NEXT_ROUND = 240.0
"""Seconds after which the same notification on the same phone is its next round (rounds are 5 minutes apart)."""

_OPENING = 1
"""The number of an alert's opening, which is known by its alert alone; later transitions are numbered by their ids."""


type Promise = Literal["lost", "duplicates", "order_violations"]


@dataclass(slots=True, kw_only=True)
class DemoJudgement:
    """Counts of what happened, and one sentence for each thing that should not have happened."""

    accepted: int = 0
    arrived: int = 0
    lost: int = 0
    duplicates: int = 0
    repeats_absorbed: int = 0
    marked_repeats: int = 0
    order_violations: int = 0
    leaks: int = 0
    closings: int = 0
    closed_again: int = 0
    alerts: int = 0
    notifications: int = 0
    device_events: int = 0
    answers_run: int = 0
    complaints: list[str] = field(default_factory=list)

    def violate(self, promise: Promise, number: int, sentence: str) -> None:
        """Count ``number`` violations of ``promise``, if positive."""
        if number > 0:
            setattr(self, promise, getattr(self, promise) + number)
            self.complaints.append(f"{promise.replace('_', ' ')}: {sentence} ({number})")


def judge(records: Sequence[Record], expected: Expected) -> DemoJudgement:
    """Compare everything that was observed with what had to happen exactly once."""
    judgement = DemoJudgement()
    _judge_valves(records, expected, judgement)
    _judge_notifications(records, expected, judgement)
    _judge_effects(records, expected, judgement)
    _judge_arrivals(records, expected, judgement)
    return judgement


def _judge_valves(records: Iterable[Record], expected: Expected, judgement: DemoJudgement) -> None:
    """Each leak closes its valve once, before the next leak of the same sensor."""
    waiting: dict[str, list[float]] = {}  # by valve: when it was commanded to close since its last leak
    for record in records:
        match record:
            case Leak(sensor=sensor) if sensor in expected.guards:
                valve = expected.guards[sensor]
                _judge_closing(valve, waiting.get(valve), judgement)
                waiting[valve] = []
                judgement.leaks += 1
            case ValveCommand(valve=valve, closes=True, at=at):
                judgement.closings += 1
                if valve in waiting:
                    waiting[valve].append(at)
                else:
                    judgement.violate("duplicates", 1, f"{valve} was closed without a leak")
    for valve, commands in waiting.items():
        _judge_closing(valve, commands, judgement)


def _judge_closing(valve: str, commands: Sequence[float] | None, judgement: DemoJudgement) -> None:
    if commands is None:
        return
    judgement.violate("lost", 1 - len(commands), f"a leak did not close {valve}")
    at_once = [at for at in commands[1:2] if at - commands[0] < ONE_CLOSING]
    judgement.closed_again += len(at_once)
    judgement.violate("duplicates", len(commands) - 1 - len(at_once), f"one leak closed {valve} more than once")


def _judge_notifications(records: Sequence[Record], expected: Expected, judgement: DemoJudgement) -> None:
    """Each alert notifies each phone, and no notification is repeated; the next round comes minutes later."""
    notified = [record for record in records if isinstance(record, Notified)]
    judgement.notifications = len(notified)
    times: dict[tuple[str, str], list[float]] = {}
    for each in notified:
        times.setdefault((each.phone, each.key), []).append(each.at)
    for (phone, key), moments in times.items():
        again = sum(later - earlier < NEXT_ROUND for earlier, later in pairwise(moments))
        judgement.violate("duplicates", again, f"{phone} was notified again for {key}")
    reached = {(each.phone, each.alert) for each in notified}
    for alert in _alerts(records):
        for phone in expected.phones:
            judgement.violate("lost", (phone, alert) not in reached, f"{phone} was never notified of alert {alert}")


def _judge_effects(records: Sequence[Record], expected: Expected, judgement: DemoJudgement) -> None:
    """The actions of each given answer ran once."""
    runs = Counter(record.effect for record in records if isinstance(record, ActionRun))
    runs[VALVE_OPENED] = sum(isinstance(record, ValveCommand) and not record.closes for record in records)
    judgement.answers_run = runs.total()
    for effect in sorted(expected.effects.keys() | runs.keys()):
        wanted = expected.effects.get(effect, 0)
        judgement.violate("lost", wanted - runs[effect], f"an answer did not run: {effect}")
        judgement.violate("duplicates", runs[effect] - wanted, f"an answer ran too often: {effect}")


def _alerts(records: Iterable[Record]) -> Sequence[str]:
    """Return each alert that the integration reported, or notified a phone of."""
    return list(dict.fromkeys(record.alert for record in records if isinstance(record, (AlertOpened, Notified))))


def _judge_arrivals(records: Sequence[Record], expected: Expected, judgement: DemoJudgement) -> None:
    """Everything accepted reached every destination once, in the order of its key."""
    opened = _alerts(records)
    sent = [record for record in records if isinstance(record, DeviceEvent)]
    arrivals = [record for record in records if isinstance(record, EventArrival)]
    judgement.alerts = len(opened)
    judgement.device_events = len(sent)
    judgement.accepted = len(opened) + len(sent)
    surplus = len(opened) - judgement.leaks - expected.other_alerts
    judgement.violate("lost", -surplus, "a leak opened no alert of its own")
    judgement.violate("duplicates", surplus, "more alerts than leaks")
    ledger = _ledger(opened, sent, arrivals)
    result = judge_ledger(ledger, expected.destinations, {})
    for line in result.describe_missing():
        judgement.complaints.append(f"lost: {line}")
    judgement.lost += result.total("lost")
    judgement.violate("duplicates", result.total("duplicate_effects"), "an event took effect again")
    judgement.violate("duplicates", result.total("unexpected"), "an event arrived that no device sent")
    judgement.violate(
        "order_violations", result.total("order_violations"), "events of one key arrived after later ones"
    )
    judgement.repeats_absorbed = result.total("repeats_absorbed")
    judgement.marked_repeats = result.total("marked_repeats")
    missing = {item for items in result.missing.values() for item in items}
    accepted = {item for item in missing if item.priority is Priority.CHANGE or item.number == _OPENING}
    judgement.arrived = judgement.accepted - len(accepted)
    for destination in expected.destinations:
        _judge_histories(
            destination, [each for each in arrivals if each.destination == destination], expected, judgement
        )


def _ledger(opened: Iterable[str], sent: Iterable[DeviceEvent], arrivals: Sequence[EventArrival]) -> Ledger:
    """Return a ledger of alerts, their transitions and device events.

    A transition that one destination has must reach all of them.
    """
    ledger = Ledger(bound=0.0)
    ledger.broken = 1  # the scenario kills the gateway once
    values: defaultdict[tuple[str, str], list[Value]] = defaultdict(list)
    for event in sent:
        values[event.device].append(event.value)
    # Ids of transitions are ULIDs, which sort by the time of their creation.
    ids = sorted({each.id for each in arrivals if each.type in TRANSITIONS and each.type != OPENED})
    ranks = {id_: number for number, id_ in enumerate(ids, _OPENING + 1)}
    promised = [Item(Priority.URGENT, alert, _OPENING) for alert in opened]
    promised += [_transition(each, ranks) for each in arrivals if each.id in ranks]
    promised += [
        Item(Priority.CHANGE, "/".join(device), number)
        for device, listed in values.items()
        for number in range(1, len(listed) + 1)
    ]
    for item in promised:
        ledger.attempt(item, 0.0)
        ledger.acknowledge(item, 1.0)
    for destination in dict.fromkeys(each.destination for each in arrivals):
        first: dict[str, EventArrival] = {}
        here = (each for each in arrivals if each.destination == destination)
        repeats = [each for each in here if first.setdefault(each.id, each) is not each]
        items = dict(_items(first.values(), values, ranks))
        for id_, item in items.items():
            each = first[id_]
            if each.device is None:
                ledger.attempt(item, 0.0)  # an event that is not promised may arrive, but only once
            ledger.arrive(destination, Arrival(item=item, event=id_, fresh=each.fresh, marked=each.marked))
        for each in repeats:
            ledger.arrive(destination, Arrival(item=items[each.id], event=each.id, fresh=each.fresh))
    return ledger


def _transition(event: EventArrival, ranks: Mapping[str, int]) -> Item:
    return Item(Priority.URGENT, event.subject, ranks.get(event.id, _OPENING))


def _items(
    events: Iterable[EventArrival],
    values: Mapping[tuple[str, str], Sequence[Value]],
    ranks: Mapping[str, int],
) -> Iterator[tuple[str, Item]]:
    """Yield the ids of a destination's events with the items they are."""
    devices: defaultdict[tuple[str, str], list[EventArrival]] = defaultdict(list)
    for event in events:
        if event.device is not None:
            devices[event.device].append(event)
        elif event.type in TRANSITIONS:
            yield event.id, _transition(event, ranks)
        else:
            yield event.id, Item(Priority.CHANGE, event.id, 1)
    for device, listed in devices.items():
        for event, number in _numbered(listed, values.get(device, ())):
            yield event.id, Item(Priority.CHANGE, "/".join(device), number)


def _numbered(events: Sequence[EventArrival], sent: Sequence[Value]) -> Iterator[tuple[EventArrival, int]]:
    """Yield a device's events with the place of each in what was ``sent``.

    Events of a device have no number: the n-th arrival of a value is the n-th one sent. Arrivals that are marked as
    possible repeats, and exceed what was sent, come last: they repeat any one of that value.
    """
    places: defaultdict[Value | None, deque[int]] = defaultdict(deque)
    for number, value in enumerate(sent, 1):
        places[value].append(number)
    surplus = Counter(event.value for event in events) - Counter(sent)
    latest: dict[Value | None, int] = {}
    repeats: list[EventArrival] = []
    for event in events:
        if event.marked and surplus[event.value] > 0:
            surplus[event.value] -= 1
            repeats.append(event)
            continue
        if places[event.value]:
            latest[event.value] = places[event.value].popleft()
        yield event, latest.get(event.value, len(sent) + 1)
    for event in repeats:
        yield event, latest.get(event.value, len(sent) + 1)


def _judge_histories(
    destination: str, arrivals: Iterable[EventArrival], expected: Expected, judgement: DemoJudgement
) -> None:
    """An alert opens before its other transitions and closes once, and every call of it is counted."""
    histories: dict[str, dict[str, EventArrival]] = {}
    for arrival in arrivals:
        if arrival.type in TRANSITIONS:
            histories.setdefault(arrival.subject, {}).setdefault(arrival.id, arrival)
    for alert, history in histories.items():
        closings = sum(each.type in CLOSING for each in history.values())
        judgement.violate("duplicates", closings - 1, f"{destination} received more than one closing of {alert}")
        opening = next((each.id for each in history.values() if each.type == OPENED), "")
        judgement.violate(
            "order_violations",
            sum(id_ < opening for id_ in history),
            f"{destination}: the opening of {alert} has a later id than others",
        )
    for alert, calls in expected.calls.items():
        received = max((each.count or 0 for each in histories.get(alert, {}).values()), default=0)
        judgement.violate("lost", calls - received, f"{destination} received {received} calls of {alert}, not {calls}")
        judgement.violate(
            "duplicates", received - calls, f"{destination} received {received} calls of {alert}, not {calls}"
        )
