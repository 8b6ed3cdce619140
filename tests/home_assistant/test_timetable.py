"""The timetable, without Home Assistant: random histories, and a year of nights."""

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
from custom_components.process_cosmos.alerts.timetable import Outcomes, Timetable, is_earlier, timetable
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
class Night:
    """One alert on a clock of its own; tells end at once, as ``reached`` says."""

    policy: Policy = POLICY
    now: datetime = BEGIN
    state: State = field(default_factory=State)
    outcomes: Outcomes = field(default_factory=Outcomes)
    away: set[str] = field(default_factory=set)
    gateway_away_since: datetime | None = None
    told: list[tuple[datetime, NotificationKey]] = field(default_factory=list)
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
        self.outcomes.follow(self.alert.revision, self.alert.cycle_revision)
        if isinstance(record, NotifiedRecord):
            self.outcomes.learn(record.key, reached=record.reached, at=record.at)

    def revision(self, message: str) -> None:
        notify_at = self.alert.next_notification_at(self.now)
        self.record(Updated(alert=ID, event=EVENT, at=self.now, content=content(message), notify_at=notify_at))

    def acknowledge(self, duration: timedelta) -> None:
        self.record(Acknowledged(alert=ID, event=EVENT, at=self.now, notify_at=self.now + duration, by="Anna"))

    def look(self) -> None:
        """Do what is due until nothing is."""
        if self.alert.state is AlertState.ACKNOWLEDGED and self.now >= self.alert.notify_at:
            self.record(AcknowledgementExpired(alert=ID, event=EVENT, at=self.now))
        while tells := self.table.tells:
            for key in tells:
                reached = key.recipient not in self.away
                if reached:
                    self.told.append((self.now, key))
                self.record(NotifiedRecord(key=key, reached=reached, at=self.now))

    def run(self, duration: timedelta) -> None:
        """Let time pass as the engine does: from one moment it wants to look at to the next."""
        end = self.now + duration
        self.look()
        while (look_at := self.table.look_at) is not None and look_at <= end:
            assert look_at > self.now, "the clock always gets on"
            self.now = look_at
            self.look()
        self.now = end
        self.look()

    def levels(self, since: datetime = BEGIN) -> list[tuple[float, int, int]]:
        """(minutes since, level, round) of what was told."""
        return [((at - since) / MINUTE, key.level, key.round) for at, key in self.told]


def test_people_are_told_at_once_every_five_minutes_and_twelve_times() -> None:
    night = Night(default_policy({"phones": ["anna"], "notify_entities": [], "destinations": []}))
    night.run(timedelta(hours=30))
    assert night.levels() == [(float(5 * number), 0, number) for number in range(12)]


def test_a_level_that_reached_nobody_is_over_at_once() -> None:
    night = Night()
    night.away = {ANNA}
    night.look()
    assert night.levels() == [(0.0, 1, 0)]  # Ben, of level 1
    assert {request.key.level: request.due for request in night.table.requests if request.key.round == 0} == {
        1: BEGIN,
        2: BEGIN + 20 * MINUTE,
    }


def test_a_destination_counts_as_not_reached_while_the_gateway_is_away() -> None:
    night = Night(gateway_away_since=BEGIN, away={ANNA, BEN})
    night.look()
    requests = {request.key.level: request.due for request in night.table.requests if request.key.round == 0}
    assert requests == {1: BEGIN, 2: BEGIN}
    night.gateway_away_since = None
    requests = {request.key.level: request.due for request in night.table.requests if request.key.round == 0}
    assert requests[1] == BEGIN  # it was told: started


def test_a_late_success_of_a_destination_replaces_its_failure() -> None:
    night = Night(away={ANNA, BEN})
    night.look()
    key = next(request.key for request in night.table.requests if request.key.level == 1)
    night.record(NotifiedRecord(key=key, reached=False, at=night.now))
    assert min(request.due for request in night.table.requests if request.key.level == 2) == BEGIN
    night.policy = Policy(levels=(*POLICY.levels[:2], replace(POLICY.levels[2], people=())))
    night.outcomes.first_notification.pop(2, None)
    night.record(NotifiedRecord(key=key, reached=True, at=night.now))
    night.record(NotifiedRecord(key=key, reached=False, at=night.now))  # an older report, late
    assert min(request.due for request in night.table.requests if request.key.level == 2) == BEGIN + 20 * MINUTE
    assert key not in {request.key for request in night.table.requests}


def test_while_home_assistant_is_away_nobody_at_home_is_told_so_the_destinations_are_due_at_once() -> None:
    requests = {(request.key.level, request.key.round): request for request in Night().table.requests}
    assert requests[1, 0].due == BEGIN + 10 * MINUTE
    assert requests[1, 0].due_if_home_assistant_away == BEGIN
    # Level 1 has a destination, which may well be reached: the wait after it counts.
    assert requests[2, 0].due == BEGIN + 30 * MINUTE
    assert requests[2, 0].due_if_home_assistant_away == BEGIN + 20 * MINUTE
    assert requests[2, 2].due == BEGIN + 34 * MINUTE


def test_missed_rounds_collapse_into_one_and_each_due_level_is_told_once_low_to_high() -> None:
    night = Night()
    night.now += 47 * MINUTE
    night.look()
    assert night.levels() == [(47.0, 0, 9), (47.0, 1, 7), (47.0, 1, 7), (47.0, 2, 2)]
    assert {request.key.round for request in night.table.requests if request.key.level == 1} == {7, 8, 9, 10, 11}


def test_a_ring_with_new_content_does_not_restart_the_levels() -> None:
    night = Night()
    for number in range(1, 73):
        night.run(timedelta(seconds=50))
        night.revision(f"{number} litres")
    night.run(MINUTE)
    begins = {level: min(at for at, key in night.told if key.level == level) for level in (0, 1, 2)}
    assert begins == {0: BEGIN, 1: BEGIN + 10 * MINUTE, 2: BEGIN + 30 * MINUTE}
    notifications = [at for at, key in night.told if key.level == 0]
    assert all(timedelta(seconds=60) == after - before for before, after in pairwise(notifications))


def test_an_acknowledgement_puts_everything_off_to_its_end() -> None:
    night = Night()
    night.run(25 * MINUTE)
    night.acknowledge(60 * MINUTE)
    told = len(night.told)
    night.run(59 * MINUTE)
    assert len(night.told) == told
    assert min(request.due for request in night.table.requests) == BEGIN + (25 + 60 + 10) * MINUTE
    night.run(11 * MINUTE)
    assert [(minutes, level) for minutes, level, _ in night.levels()[told:]] == [
        (85.0, 0),
        (90.0, 0),
        (95.0, 0),
        (95.0, 1),
        (95.0, 1),
    ]


def test_nothing_is_told_after_the_give_up() -> None:
    night = Night()
    night.now = night.alert.until
    assert night.table == Timetable(tells=(), requests=(), look_at=None)


STEPS = st.one_of(
    st.tuples(st.just("pass"), st.integers(1, 40 * 60)),
    st.tuples(st.just("revision"), st.integers(0, 9)),
    st.tuples(st.just("acknowledge"), st.integers(60, 7200)),
    st.tuples(st.just("away"), st.sets(st.sampled_from([ANNA, BEN]))),
    st.tuples(st.just("gateway"), st.booleans()),
    st.tuples(st.just("notification_requested"), st.booleans()),
)


def play(night: Night, step: tuple[str, object]) -> None:
    match step:
        case ("pass", int() as seconds):
            night.run(timedelta(seconds=seconds))
        case ("revision", number):
            night.revision(f"{number}")
        case ("acknowledge", int() as seconds):
            night.acknowledge(timedelta(seconds=seconds))
        case ("away", set() as away):
            night.away = away
        case ("gateway", here):
            night.gateway_away_since = None if here else night.now
        case ("notification_requested", reached):
            for request in night.table.requests[:1]:
                if request.due <= night.now:
                    night.record(NotifiedRecord(key=request.key, reached=bool(reached), at=night.now))
    night.look()


@settings(max_examples=150, deadline=None)
@given(st.lists(STEPS, max_size=25))
def test_whatever_happens_no_tell_is_repeated_and_somebody_who_can_be_reached_is_told(
    steps: list[tuple[str, object]],
) -> None:
    night = Night()
    for step in steps:
        before = night.table.requests
        play(night, step)
        table = night.table
        # A tell is executed once; only the newest ring is told, and never while acknowledged.
        assert len({key for _, key in night.told}) == len(night.told)
        assert table.tells == []
        for at, key in night.told:
            assert key.revision <= night.alert.revision
            assert at <= night.now
        # The list of asks is whole: unique keys, in order, of this ring, away never later than planned.
        keys = [request.key for request in table.requests]
        assert len(set(keys)) == len(keys)
        for request in table.requests:
            assert request.key.revision == night.alert.revision
            assert request.due_if_home_assistant_away <= request.due
            assert request.due >= night.alert.notify_at
        # Looking again changes nothing, and there is always a next look.
        assert not is_earlier(table.requests, table.requests)
        assert table.look_at is not None
        assert night.now < table.look_at <= night.alert.until
        assert before is not None
    night.away = set()
    told = len(night.told)
    silent_until = max(night.now, night.alert.notify_at)
    if night.outcomes.tries.get((0, ANNA)) is None:
        night.run(silent_until - night.now + MINUTE)
        assert len(night.told) > told


@settings(max_examples=100, deadline=None)
@given(st.lists(STEPS, max_size=15))
def test_every_level_starts_at_the_latest_at_its_time_whatever_the_other_side_does(
    steps: list[tuple[str, object]],
) -> None:
    night = Night()
    for step in steps:
        play(night, step)
        due = {request.key.level: request.due for request in reversed(night.table.requests) if request.key.round == 0}
        latest = max(night.alert.cycle_started_at + 10 * MINUTE, night.alert.notify_at)
        assert due.get(1, latest) <= latest


@settings(max_examples=60, deadline=None)
@given(st.lists(STEPS, max_size=20))
def test_the_state_is_the_same_when_its_records_are_folded_again(steps: list[tuple[str, object]]) -> None:
    night = Night()
    records: list[Record] = []
    night.records = records
    opened = Opened(alert=ID, event=EVENT, at=BEGIN, group="g", content=content())
    for step in steps:
        play(night, step)
    again = Night(now=BEGIN)
    assert again.alert == State().fold(opened)[0]
    for record in records:
        again.record(record)
    assert again.alert == night.alert
    assert again.outcomes == night.outcomes
    again.now, again.gateway_away_since = night.now, night.gateway_away_since
    assert again.table == night.table


def test_a_year_of_nights_is_over_in_seconds() -> None:
    tells = 0
    for number in range(365):
        night = Night(now=BEGIN + timedelta(days=number))
        night.run(timedelta(hours=12))
        tells += len(night.told)
    assert tells == 365 * (12 + 2 * 12 + 3)
