"""Timetable without Home Assistant: single cases, random histories, and a year of alerts."""

from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st

from custom_components.process_cosmos.alerts.model import Alert, State
from custom_components.process_cosmos.alerts.policy import Level, Policy, default_policy
from custom_components.process_cosmos.alerts.records import (
    Acknowledged,
    AcknowledgementExpired,
    Content,
    NotifiedRecord,
    Opened,
    Record,
    Updated,
)
from custom_components.process_cosmos.alerts.timetable import NotificationOutcomes, Timetable, is_earlier, timetable
from custom_components.process_cosmos.contract.alerts import AlertState, Severity
from custom_components.process_cosmos.contract.identifiers import NotificationKey, Ulid

ID = Ulid("01JD0000000000000000000001")
EVENT = Ulid("01JD0000000000000000000002")
BEGIN = datetime(2026, 11, 22, 20, tzinfo=UTC)
MINUTE = timedelta(minutes=1)

ANNA, BEN, CLOUD = "phone:anna", "phone:ben", "destination:cloud"
POLICY = Policy(
    levels=(
        Level(after=timedelta(), people=(ANNA,)),
        Level(after=10 * MINUTE, people=(ANNA, BEN), destinations=(CLOUD,)),
        Level(after=20 * MINUTE, people=(BEN,), destinations=(CLOUD,), every=2 * MINUTE, rounds=3),
    )
)


def content(message: str = "Water", give_up_after: float = 24 * 3600) -> Content:
    return Content(message=message, severity=Severity.WARNING, give_up_after=give_up_after)


@dataclass
class SimulatedAlert:
    """One alert with its own clock; notifications end at once and fail for recipients in ``away``."""

    policy: Policy = POLICY
    now: datetime = BEGIN
    state: State = field(default_factory=State)
    outcomes: NotificationOutcomes = field(default_factory=NotificationOutcomes)
    away: set[str] = field(default_factory=set)
    gateway_away_since: datetime | None = None
    notified: list[tuple[datetime, NotificationKey]] = field(default_factory=list)
    records: list[Record] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.record(Opened(alert=ID, event=EVENT, at=self.now, group="g", content=content()))

    @property
    def alert(self) -> Alert:
        return self.state.alerts[ID]

    @property
    def table(self) -> Timetable:
        return timetable(self.policy, self.alert, self.outcomes, self.now, self.gateway_away_since)

    def record(self, record: Record) -> None:
        self.records.append(record)
        self.state.fold(record)
        self.outcomes.reset_for(self.alert.revision, self.alert.cycle_revision)
        if isinstance(record, NotifiedRecord):
            self.outcomes.add(record.key, reached=record.reached, at=record.at)

    def update(self, message: str) -> None:
        notify_at = self.alert.next_notification_at(self.now)
        self.record(Updated(alert=ID, event=EVENT, at=self.now, content=content(message), notify_at=notify_at))

    def acknowledge(self, duration: timedelta) -> None:
        self.record(Acknowledged(alert=ID, event=EVENT, at=self.now, notify_at=self.now + duration, by="Anna"))

    def process(self) -> None:
        """Send due notifications until none is left."""
        if self.alert.state is AlertState.ACKNOWLEDGED and self.now >= self.alert.notify_at:
            self.record(AcknowledgementExpired(alert=ID, event=EVENT, at=self.now))
        while notifications := self.table.notifications:
            for key in notifications:
                reached = key.recipient not in self.away
                if reached:
                    self.notified.append((self.now, key))
                self.record(NotifiedRecord(key=key, reached=reached, at=self.now))

    def run(self, duration: timedelta) -> None:
        """Advance the clock from one check time to the next, in the same way as the scheduler."""
        end = self.now + duration
        self.process()
        while (next_check_at := self.table.next_check_at) is not None and next_check_at <= end:
            assert next_check_at > self.now, "the next check must be in the future"
            self.now = next_check_at
            self.process()
        self.now = end
        self.process()

    def levels(self, since: datetime = BEGIN) -> list[tuple[float, int, int]]:
        """Return (minutes since ``since``, level, round) of each notification."""
        return [((at - since) / MINUTE, key.level, key.round) for at, key in self.notified]


def test_people_are_notified_at_once_and_twelve_times_every_five_minutes() -> None:
    simulation = SimulatedAlert(default_policy({"phones": ["anna"], "notify_entities": [], "destinations": []}))
    simulation.run(timedelta(hours=30))
    assert simulation.levels() == [(float(5 * number), 0, number) for number in range(12)]


def test_the_next_level_starts_at_once_if_a_level_reached_nobody() -> None:
    simulation = SimulatedAlert()
    simulation.away = {ANNA}
    simulation.process()
    assert simulation.levels() == [(0.0, 1, 0)]  # Ben, of level 1
    assert {request.key.level: request.due for request in simulation.table.requests if request.key.round == 0} == {
        1: BEGIN,
        2: BEGIN + 20 * MINUTE,
    }


def test_a_destination_counts_as_not_reached_while_the_gateway_is_away() -> None:
    simulation = SimulatedAlert(gateway_away_since=BEGIN, away={ANNA, BEN})
    simulation.process()
    requests = {request.key.level: request.due for request in simulation.table.requests if request.key.round == 0}
    assert requests == {1: BEGIN, 2: BEGIN}
    simulation.gateway_away_since = None
    requests = {request.key.level: request.due for request in simulation.table.requests if request.key.round == 0}
    assert requests[1] == BEGIN  # it has started with its first notification


def test_a_late_success_of_a_destination_replaces_its_failure() -> None:
    simulation = SimulatedAlert(away={ANNA, BEN})
    simulation.process()
    key = next(request.key for request in simulation.table.requests if request.key.level == 1)
    simulation.record(NotifiedRecord(key=key, reached=False, at=simulation.now))
    assert min(request.due for request in simulation.table.requests if request.key.level == 2) == BEGIN
    simulation.policy = Policy(levels=(*POLICY.levels[:2], replace(POLICY.levels[2], people=())))
    simulation.outcomes.first_notification.pop(2, None)
    simulation.record(NotifiedRecord(key=key, reached=True, at=simulation.now))
    simulation.record(NotifiedRecord(key=key, reached=False, at=simulation.now))  # an older report, late
    assert min(request.due for request in simulation.table.requests if request.key.level == 2) == BEGIN + 20 * MINUTE
    assert key not in {request.key for request in simulation.table.requests}


def test_destinations_are_due_at_once_while_home_assistant_is_away() -> None:
    requests = {(request.key.level, request.key.round): request for request in SimulatedAlert().table.requests}
    assert requests[1, 0].due == BEGIN + 10 * MINUTE
    assert requests[1, 0].due_if_home_assistant_away == BEGIN
    # Level 1 has a destination, which counts as reached, so level 2 waits for its planned delay.
    assert requests[2, 0].due == BEGIN + 30 * MINUTE
    assert requests[2, 0].due_if_home_assistant_away == BEGIN + 20 * MINUTE
    assert requests[2, 2].due == BEGIN + 34 * MINUTE


def test_missed_rounds_collapse_into_one_and_due_levels_are_notified_in_order() -> None:
    simulation = SimulatedAlert()
    simulation.now += 47 * MINUTE
    simulation.process()
    assert simulation.levels() == [(47.0, 0, 9), (47.0, 1, 7), (47.0, 1, 7), (47.0, 2, 2)]
    assert {request.key.round for request in simulation.table.requests if request.key.level == 1} == {7, 8, 9, 10, 11}


def test_new_content_does_not_restart_the_levels() -> None:
    simulation = SimulatedAlert()
    for number in range(1, 73):
        simulation.run(timedelta(seconds=50))
        simulation.update(f"{number} litres")
    simulation.run(MINUTE)
    begins = {level: min(at for at, key in simulation.notified if key.level == level) for level in (0, 1, 2)}
    assert begins == {0: BEGIN, 1: BEGIN + 10 * MINUTE, 2: BEGIN + 30 * MINUTE}
    notifications = [at for at, key in simulation.notified if key.level == 0]
    assert all(timedelta(seconds=60) == after - before for before, after in pairwise(notifications))


def test_an_acknowledgement_postpones_everything_to_its_end() -> None:
    simulation = SimulatedAlert()
    simulation.run(25 * MINUTE)
    simulation.acknowledge(60 * MINUTE)
    notified = len(simulation.notified)
    simulation.run(59 * MINUTE)
    assert len(simulation.notified) == notified
    assert min(request.due for request in simulation.table.requests) == BEGIN + (25 + 60 + 10) * MINUTE
    simulation.run(11 * MINUTE)
    assert [(minutes, level) for minutes, level, _ in simulation.levels()[notified:]] == [
        (85.0, 0),
        (90.0, 0),
        (95.0, 0),
        (95.0, 1),
        (95.0, 1),
    ]


def test_nothing_is_sent_after_the_give_up_time() -> None:
    simulation = SimulatedAlert()
    simulation.now = simulation.alert.until
    assert simulation.table == Timetable(notifications=(), requests=(), next_check_at=None)


STEPS = st.one_of(
    st.tuples(st.just("pass"), st.integers(1, 40 * 60)),
    st.tuples(st.just("revision"), st.integers(0, 9)),
    st.tuples(st.just("acknowledge"), st.integers(60, 7200)),
    st.tuples(st.just("away"), st.sets(st.sampled_from([ANNA, BEN]))),
    st.tuples(st.just("gateway"), st.booleans()),
    st.tuples(st.just("notification_requested"), st.booleans()),
)


def apply_step(simulation: SimulatedAlert, step: tuple[str, object]) -> None:
    match step:
        case ("pass", int() as seconds):
            simulation.run(timedelta(seconds=seconds))
        case ("revision", number):
            simulation.update(f"{number}")
        case ("acknowledge", int() as seconds):
            simulation.acknowledge(timedelta(seconds=seconds))
        case ("away", set() as away):
            simulation.away = away
        case ("gateway", here):
            simulation.gateway_away_since = None if here else simulation.now
        case ("notification_requested", reached):
            for request in simulation.table.requests[:1]:
                if request.due <= simulation.now:
                    simulation.record(NotifiedRecord(key=request.key, reached=bool(reached), at=simulation.now))
    simulation.process()


@settings(max_examples=150, deadline=None)
@given(st.lists(STEPS, max_size=25))
def test_no_notification_is_repeated_and_reachable_people_are_notified(
    steps: list[tuple[str, object]],
) -> None:
    simulation = SimulatedAlert()
    for step in steps:
        before = simulation.table.requests
        apply_step(simulation, step)
        table = simulation.table
        # Each notification is sent once, for the current or an earlier revision, and none is due now.
        assert len({key for _, key in simulation.notified}) == len(simulation.notified)
        assert table.notifications == []
        for at, key in simulation.notified:
            assert key.revision <= simulation.alert.revision
            assert at <= simulation.now
        # Requests have unique keys of the current revision; while away they are never due later than planned.
        keys = [request.key for request in table.requests]
        assert len(set(keys)) == len(keys)
        for request in table.requests:
            assert request.key.revision == simulation.alert.revision
            assert request.due_if_home_assistant_away <= request.due
            assert request.due >= simulation.alert.notify_at
        # Computing the timetable again changes nothing, and there is always a next check.
        assert not is_earlier(table.requests, table.requests)
        assert table.next_check_at is not None
        assert simulation.now < table.next_check_at <= simulation.alert.until
        assert before is not None
    simulation.away = set()
    notified = len(simulation.notified)
    silent_until = max(simulation.now, simulation.alert.notify_at)
    if simulation.outcomes.attempts.get((0, ANNA)) is None:
        simulation.run(silent_until - simulation.now + MINUTE)
        assert len(simulation.notified) > notified


@settings(max_examples=100, deadline=None)
@given(st.lists(STEPS, max_size=15))
def test_every_level_starts_at_its_planned_time_at_the_latest(
    steps: list[tuple[str, object]],
) -> None:
    simulation = SimulatedAlert()
    for step in steps:
        apply_step(simulation, step)
        due = {
            request.key.level: request.due for request in reversed(simulation.table.requests) if request.key.round == 0
        }
        latest = max(simulation.alert.cycle_started_at + 10 * MINUTE, simulation.alert.notify_at)
        assert due.get(1, latest) <= latest


@settings(max_examples=60, deadline=None)
@given(st.lists(STEPS, max_size=20))
def test_the_state_is_the_same_when_its_records_are_folded_again(steps: list[tuple[str, object]]) -> None:
    simulation = SimulatedAlert()
    records: list[Record] = []
    simulation.records = records
    opened = Opened(alert=ID, event=EVENT, at=BEGIN, group="g", content=content())
    for step in steps:
        apply_step(simulation, step)
    again = SimulatedAlert(now=BEGIN)
    assert again.alert == State().fold(opened)[0]
    for record in records:
        again.record(record)
    assert again.alert == simulation.alert
    assert again.outcomes == simulation.outcomes
    again.now, again.gateway_away_since = simulation.now, simulation.gateway_away_since
    assert again.table == simulation.table


def test_a_year_of_alerts_is_simulated() -> None:
    notifications = 0
    for number in range(365):
        simulation = SimulatedAlert(now=BEGIN + timedelta(days=number))
        simulation.run(timedelta(hours=12))
        notifications += len(simulation.notified)
    assert notifications == 365 * (12 + 2 * 12 + 3)
