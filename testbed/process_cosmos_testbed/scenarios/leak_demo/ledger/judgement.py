"""The verdict on what the ledger saw: pure functions of records, so that tests can show them every kind of failure."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from .evidence import ActionRun, Arrival, Command, DeviceEvent, Expected, Leak, Opened, Record, Ring, Scalar

OPENED = "process_cosmos.alert.opened.v1"
CLOSING = tuple(f"process_cosmos.alert.{kind}.v1" for kind in ("answered", "unanswered", "resolved"))
OTHER = tuple(
    f"process_cosmos.alert.{kind}.v1"
    for kind in (
        "updated",
        "acknowledged",
        "acknowledgement_expired",
        "rescheduled",
        "outcome",
        "restored",
        "reconciled",
    )
)
TRANSITIONS = frozenset({OPENED, *CLOSING, *OTHER})
"""What happened to an alert, in order; `asked` is no transition, its id comes from its key."""

VALVE_OPENED = "valve opened"
"""The effect of the answer "turn on again": nothing else commands a valve to open."""

MOST_IN_COMMIT = 500
"""Messages of devices the gateway stores in one commit: so many may be repeated, marked, by the demo's one kill."""

ONE_CLOSING = 0.5
"""Seconds within which two commands to close are one closing: after a start a sensor gets wet and its valve comes back
open in the same moment, and each has a run of its own. The write is idempotent; a third one, or a later one, is not."""

NEXT_ROUND = 240.0
"""Seconds after which the same ring on the same phone is its next round (they come every 5 minutes)."""


@dataclass(slots=True, kw_only=True)
class Judgement:
    """Counts of what happened, and one sentence for each thing that should not have."""

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
    rings: int = 0
    device_events: int = 0
    answers_run: int = 0
    complaints: list[str] = field(default_factory=list)

    def lose(self, number: int, sentence: str) -> None:
        """Count ``number`` things as lost, if there are any."""
        if number > 0:
            self.lost += number
            self.complaints.append(f"lost: {sentence} ({number})")

    def repeat(self, number: int, sentence: str) -> None:
        """Count ``number`` effects as happened too often, if there are any."""
        if number > 0:
            self.duplicates += number
            self.complaints.append(f"duplicate: {sentence} ({number})")

    def disorder(self, number: int, sentence: str) -> None:
        """Count ``number`` things as out of order, if there are any."""
        if number > 0:
            self.order_violations += number
            self.complaints.append(f"out of order: {sentence} ({number})")


def judge(records: Sequence[Record], expected: Expected) -> Judgement:
    """Weigh everything that was seen against what had to happen exactly once."""
    verdict = Judgement()
    _judge_valves(records, expected, verdict)
    _judge_rings(records, expected, verdict)
    _judge_effects(records, expected, verdict)
    _judge_arrivals(records, expected, verdict)
    return verdict


def _judge_valves(records: Iterable[Record], expected: Expected, verdict: Judgement) -> None:
    """Each leak closes its valve once, before the next leak of the same sensor."""
    guards = {guard.sensor: guard.valve for guard in expected.guards}
    waiting: dict[str, list[float]] = {}  # by valve: when it was told to close since its last leak
    for record in records:
        match record:
            case Leak(sensor=sensor) if sensor in guards:
                valve = guards[sensor]
                _settle_leak(valve, waiting.get(valve), verdict)
                waiting[valve] = []
                verdict.leaks += 1
            case Command(valve=valve, closes=True, at=at):
                verdict.closings += 1
                if valve in waiting:
                    waiting[valve].append(at)
                else:
                    verdict.repeat(1, f"{valve} was closed without a leak")
    for valve, commands in waiting.items():
        _settle_leak(valve, commands, verdict)


def _settle_leak(valve: str, commands: Sequence[float] | None, verdict: Judgement) -> None:
    if commands is None:
        return
    verdict.lose(1 - len(commands), f"a leak did not close {valve}")
    at_once = [at for at in commands[1:2] if at - commands[0] < ONE_CLOSING]
    verdict.closed_again += len(at_once)
    verdict.repeat(len(commands) - 1 - len(at_once), f"one leak closed {valve} more than once")


def _judge_rings(records: Sequence[Record], expected: Expected, verdict: Judgement) -> None:
    """Each alert rings on each phone, and no ring is heard twice; the next round comes minutes later."""
    rings: dict[tuple[str, str], list[float]] = {}
    for record in records:
        if isinstance(record, Ring):
            rings.setdefault((record.phone, record.key), []).append(record.at)
            verdict.rings += 1
    for (phone, key), times in rings.items():
        again = sum(later - earlier < NEXT_ROUND for earlier, later in pairwise(times))
        verdict.repeat(again, f"{phone} rang again for {key}")
    heard = {(record.phone, record.alert) for record in records if isinstance(record, Ring)}
    for alert in _alerts(records):
        for phone in expected.phones:
            verdict.lose((phone, alert) not in heard, f"{phone} never rang for alert {alert}")


def _judge_effects(records: Sequence[Record], expected: Expected, verdict: Judgement) -> None:
    """The actions of each given answer ran once."""
    runs = Counter(record.effect for record in records if isinstance(record, ActionRun))
    runs[VALVE_OPENED] = sum(isinstance(record, Command) and not record.closes for record in records)
    verdict.answers_run = runs.total()
    for effect in sorted(expected.effects.keys() | runs.keys()):
        wanted = expected.effects.get(effect, 0)
        verdict.lose(wanted - runs[effect], f"an answer did not run: {effect}")
        verdict.repeat(runs[effect] - wanted, f"an answer ran too often: {effect}")


def _alerts(records: Iterable[Record]) -> Sequence[str]:
    """Return each alert the integration said to hold, or rang for."""
    return list(dict.fromkeys(record.alert for record in records if isinstance(record, (Opened, Ring))))


def _judge_arrivals(records: Sequence[Record], expected: Expected, verdict: Judgement) -> None:
    """Everything accepted reached every destination once, in the order of its key."""
    opened = _alerts(records)
    events: dict[tuple[str, str], list[Scalar]] = {}
    for record in records:
        if isinstance(record, DeviceEvent):
            events.setdefault(record.device, []).append(record.value)
    verdict.alerts = len(opened)
    verdict.device_events = sum(map(len, events.values()))
    verdict.accepted = verdict.alerts + verdict.device_events
    surplus = len(opened) - verdict.leaks - expected.other_alerts
    verdict.lose(-surplus, "a leak opened no alert of its own")
    verdict.repeat(surplus, "more alerts than leaks")
    later = {
        record.id
        for record in records
        if isinstance(record, Arrival) and record.type in TRANSITIONS and record.type != OPENED
    }
    missing_alerts: set[str] = set()
    missing_events: Counter[tuple[str, str]] = Counter()
    for destination in expected.destinations:
        first = _first_arrivals(records, destination, verdict)
        verdict.lose(len(later - {arrival.id for arrival in first}), f"transitions never reached {destination}")
        missing_alerts |= _judge_alerts(destination, first, opened, expected, verdict)
        missing_events |= _judge_device_events(destination, first, events, verdict)
    verdict.arrived = verdict.accepted - len(missing_alerts) - missing_events.total()


def _first_arrivals(records: Iterable[Record], destination: str, verdict: Judgement) -> Sequence[Arrival]:
    """Return a destination's events in the order in which each arrived first; a repeat must have been dropped."""
    first: dict[str, Arrival] = {}
    for record in records:
        if isinstance(record, Arrival) and record.destination == destination:
            if record.id not in first:
                first[record.id] = record
            elif record.taken_as_new:
                verdict.repeat(1, f"{destination} took {record.type} {record.id} as new again")
            else:
                verdict.repeats_absorbed += 1
    return list(first.values())


def _judge_alerts(
    destination: str, first: Iterable[Arrival], opened: Iterable[str], expected: Expected, verdict: Judgement
) -> set[str]:
    """Return the alerts whose opening never arrived; one opens first, closes once and last, ids only rise."""
    histories: dict[str, list[Arrival]] = {}
    for arrival in first:
        if arrival.type in TRANSITIONS:
            histories.setdefault(arrival.subject, []).append(arrival)
    for alert, history in histories.items():
        types = [arrival.type for arrival in history]
        for kind, once in (("opened", (OPENED,)), ("closed", CLOSING)):
            number = sum(type_ in once for type_ in types)
            verdict.repeat(number - 1, f"{destination} heard more than once that {alert} was {kind}")
        verdict.disorder(
            sum(later.id < earlier.id for earlier, later in pairwise(history)) + (types[0] != OPENED),
            f"{destination} heard of {alert}: {', '.join(types)}",
        )
    for alert, calls in expected.calls.items():
        heard = max((arrival.count or 0 for arrival in histories.get(alert, ())), default=0)
        verdict.lose(calls - heard, f"{destination} heard of {heard} calls of {alert}, not {calls}")
        verdict.repeat(heard - calls, f"{destination} heard of {heard} calls of {alert}, not {calls}")
    missing = {alert for alert in opened if not any(a.type == OPENED for a in histories.get(alert, ()))}
    verdict.lose(len(missing), f"alerts never reached {destination}")
    return missing


def _judge_device_events(
    destination: str, first: Iterable[Arrival], events: dict[tuple[str, str], list[Scalar]], verdict: Judgement
) -> Counter[tuple[str, str]]:
    """Return how many acknowledged events of each device never arrived; the others came once and in order."""
    arrived: dict[tuple[str, str], list[Arrival]] = {}
    for arrival in first:
        if arrival.device is not None:
            arrived.setdefault(arrival.device, []).append(arrival)
    marked = 0
    missing: Counter[tuple[str, str]] = Counter()
    for device in sorted(events.keys() | arrived.keys()):
        wanted, heard = events.get(device, []), arrived.get(device, [])
        got = _without_marked_repeats(heard, wanted)
        marked += len(heard) - len(got)
        name = "/".join(device)
        missing[device] = (Counter(wanted) - Counter(got)).total()
        verdict.lose(missing[device], f"events of {name} never reached {destination}")
        verdict.repeat((Counter(got) - Counter(wanted)).total(), f"{destination} got events of {name} again")
        if Counter(got) == Counter(wanted):
            verdict.disorder(
                sum(here != there for here, there in zip(wanted, got, strict=True)),
                f"events of {name} at {destination}",
            )
    verdict.marked_repeats += min(marked, MOST_IN_COMMIT)
    verdict.repeat(marked - MOST_IN_COMMIT, f"{destination} got more marked repeats than a kill allows")
    return missing


def _without_marked_repeats(heard: Sequence[Arrival], wanted: Iterable[Scalar]) -> list[Scalar]:
    """Return what arrived without the events that say they may be repeats and are more than were wanted."""
    surplus = Counter(arrival.value for arrival in heard) - Counter(wanted)
    kept: list[Scalar] = []
    for arrival in heard:
        if arrival.marked and surplus[arrival.value] > 0:
            surplus[arrival.value] -= 1
        else:
            kept.append(arrival.value)
    return kept
