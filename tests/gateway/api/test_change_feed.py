"""The feed: numbers, replays, snapshots."""

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import pytest

from process_cosmos_gateway.api.change_feed import ChangeFeed
from process_cosmos_gateway.api.missed_changes import MOST_TOLD
from process_cosmos_gateway.contract.devices import (
    AvailabilityChanged,
    Device,
    DeviceChanged,
    DeviceRemoved,
    EventHappened,
    MissedChange,
    MissedChangesReport,
    Property,
    PropertyKind,
    Snapshot,
    Subscribe,
    ValueChanged,
)
from process_cosmos_gateway.contract.identifiers import Ulid
from process_cosmos_gateway.contract.messages import DeviceChange

from .link import RUN

OTHER_RUN = Ulid("01KAQ7B2Z8M4T6V9C3D5F7G9HK")
WET = Property(name="wet", title="Wet", kind=PropertyKind.BOOLEAN, value=False)
DEVICES = (Device(id="leak", title="Leak", properties=(WET,)),)


@dataclass
class HandClock:
    """A clock that a test moves."""

    wall: datetime = datetime(2026, 11, 22, tzinfo=UTC)
    seconds: float = 0.0

    def now(self) -> datetime:
        return self.wall + timedelta(seconds=self.seconds)

    def monotonic(self) -> float:
        return self.seconds


@dataclass
class House:
    """A feed with what its follower heard."""

    clock: HandClock = field(default_factory=HandClock)
    heard: list[DeviceChange | Snapshot | MissedChangesReport] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.feed = ChangeFeed(self.clock, lambda: DEVICES)

    def restart(self) -> None:
        self.__post_init__()

    def wet(self, value: bool, age: float = 0.5) -> None:  # noqa: FBT001
        self.feed.publish(ValueChanged(sequence=0, device="leak", property="wet", value=value, age=age))

    def follow(self, run: Ulid = RUN, after: int | None = None) -> list[DeviceChange | Snapshot | MissedChangesReport]:
        self.heard.clear()
        self.feed.follow(Subscribe(id="1", run=run, after=after), self.heard.append)
        return list(self.heard)

    def missed(self, run: Ulid = OTHER_RUN, after: int | None = None, confirmed: int = 0) -> MissedChangesReport:
        """Come back, and return what is reported of the absence."""
        self.heard.clear()
        request = Subscribe(id="1", run=run, after=after, report_missed=True, confirmed=confirmed)
        self.feed.follow(request, self.heard.append)
        told = self.heard[-1]
        assert isinstance(told, MissedChangesReport)
        return told

    def last_number(self) -> int:
        last = self.heard[-1]
        assert not isinstance(last, MissedChangesReport)
        return last.sequence


@pytest.fixture
def house() -> House:
    return House()


def replayed(heard: list[DeviceChange | Snapshot | MissedChangesReport]) -> list[object]:
    assert isinstance(heard[-1], Snapshot)
    return [change.value for change in heard[:-1] if isinstance(change, ValueChanged)]


def test_the_first_to_follow_gets_the_snapshot_and_then_each_change_numbered(house: House) -> None:
    house.wet(True)
    (snapshot,) = house.follow()
    assert isinstance(snapshot, Snapshot)
    assert snapshot.devices == DEVICES
    house.wet(False)
    house.feed.publish(AvailabilityChanged(sequence=0, device="leak", online=False))
    assert [
        change.sequence - snapshot.sequence for change in house.heard if not isinstance(change, MissedChangesReport)
    ] == [
        0,
        1,
        2,
    ]


def test_what_the_same_run_missed_comes_first_with_its_age(house: House) -> None:
    house.follow()
    house.wet(True)
    seen = house.last_number()
    house.feed.unfollow()
    house.wet(False, age=0.5)
    house.clock.seconds += 20
    house.wet(True)
    first, *_ = heard = house.follow(after=seen)
    assert replayed(heard) == [False, True]
    assert isinstance(first, ValueChanged)
    assert first.age == 20.5


def test_what_a_follower_has_seen_does_not_come_again(house: House) -> None:
    house.follow()
    house.wet(True)
    assert replayed(house.follow(after=house.last_number())) == []


def test_a_change_of_more_than_a_minute_ago_is_no_edge_any_more(house: House) -> None:
    house.follow()
    seen = house.last_number()
    house.wet(True)
    house.clock.seconds += 61
    assert replayed(house.follow(after=seen)) == []
    house.wet(False)
    assert replayed(house.follow(after=seen)) == [False]


def test_another_run_of_home_assistant_gets_no_old_edges(house: House) -> None:
    house.follow()
    seen = house.last_number()
    house.wet(True)
    assert replayed(house.follow(run=OTHER_RUN, after=seen)) == []


def test_after_a_restart_of_the_gateway_the_numbers_go_on_and_the_news_is_replayed(house: House) -> None:
    house.follow()
    house.wet(True)
    seen = house.last_number()
    house.clock.seconds += 2
    house.restart()
    house.wet(False)
    assert replayed(house.follow(after=seen)) == [False]
    assert house.last_number() > seen


def test_after_a_restart_with_the_clock_set_back_the_news_is_replayed_too(house: House) -> None:
    house.follow()
    seen = house.last_number()
    house.clock.wall -= timedelta(days=1)
    house.restart()
    house.wet(True)
    assert replayed(house.follow(after=seen)) == [True]


def test_nobody_follows_after_unfollow(house: House) -> None:
    house.follow()
    house.feed.unfollow()
    house.wet(True)
    assert len(house.heard) == 1


def test_a_flood_keeps_the_newest_ten_thousand(house: House) -> None:
    house.follow()
    seen = house.last_number()
    house.feed.unfollow()
    for number in range(10_001):
        house.wet(bool(number))
    assert len(house.follow(after=seen)) == 10_001


def values(told: MissedChangesReport) -> list[object]:
    return [missed.value for missed in told.changes]


def test_what_came_and_went_while_home_assistant_was_away_is_told_with_its_age(house: House) -> None:
    house.missed()
    house.clock.seconds += 10
    house.feed.confirm(0)
    house.feed.unfollow()
    house.clock.seconds += 100
    house.wet(True, age=5)
    house.clock.seconds += 20
    house.wet(False)
    house.feed.publish(EventHappened(sequence=0, device="leak", event="pressed", age=0))
    house.clock.seconds += 80
    told = house.missed()
    assert told.since == 200
    assert told.changes == (
        MissedChange(device="leak", age=105, property="wet", value=True),
        MissedChange(device="leak", age=80.5, property="wet", value=False),
        MissedChange(device="leak", age=80, event="pressed"),
    )
    assert isinstance(house.heard[-2], Snapshot)


def test_numbers_and_repeated_values_are_no_news(house: House) -> None:
    house.wet(False)
    house.feed.publish(ValueChanged(sequence=0, device="leak", property="level", value=3, age=0))
    house.wet(True)
    house.wet(True)
    assert values(house.missed()) == [True]


def test_what_is_replayed_as_an_edge_is_not_told_as_missed(house: House) -> None:
    house.follow()
    seen = house.last_number()
    house.clock.seconds += 10
    house.feed.unfollow()
    house.wet(True)
    house.clock.seconds += 61
    house.wet(False)
    told = house.missed(RUN, seen)
    assert values(told) == [True]
    assert [change.value for change in house.heard if isinstance(change, ValueChanged)] == [False]


def test_what_was_sent_into_a_dying_session_is_reported_in_the_next_one(house: House) -> None:
    house.missed()
    house.wet(True)
    house.feed.confirm(house.last_number())
    house.clock.seconds += 30  # the link is cut, and neither side knows
    house.wet(False)
    house.wet(True)
    house.feed.unfollow()
    house.clock.seconds += 30
    told = house.missed()
    assert values(told) == [False, True]
    assert told.since == 60


def test_what_was_reported_is_reported_again_until_it_is_confirmed(house: House) -> None:
    house.wet(True)
    assert values(house.missed()) == [True]
    house.clock.seconds += 60
    house.feed.unfollow()
    assert values(house.missed()) == [True]
    snapshot = house.heard[-2]
    assert isinstance(snapshot, Snapshot)
    house.feed.confirm(snapshot.sequence)
    house.feed.unfollow()
    assert house.missed().changes == ()


def test_an_edge_that_was_replayed_into_a_dying_session_is_reported_once_it_is_too_old(house: House) -> None:
    house.follow()
    seen = house.last_number()
    house.feed.unfollow()
    house.wet(True)
    assert house.missed(RUN, seen, seen).changes == ()
    assert [change.value for change in house.heard if isinstance(change, ValueChanged)] == [True]
    house.feed.unfollow()
    house.clock.seconds += 61
    assert values(house.missed(RUN, seen, seen)) == [True]


def test_the_same_run_says_itself_what_it_had_processed_when_the_link_broke(house: House) -> None:
    house.missed()
    house.wet(True)
    processed = house.last_number()
    house.wet(False)
    house.feed.unfollow()
    house.clock.seconds += 61
    assert values(house.missed(RUN, processed, processed)) == [False]


def test_a_number_from_before_the_clock_was_set_back_confirms_nothing(house: House) -> None:
    house.missed()
    house.wet(True)
    house.feed.unfollow()
    assert values(house.missed(confirmed=house.last_number() + 1_000)) == [True]


def test_of_a_long_absence_the_newest_are_told_and_the_rest_counted(house: House) -> None:
    for number in range(MOST_TOLD + 3):
        house.feed.publish(ValueChanged(sequence=0, device="leak", property="state", value=f"{number:0300}", age=0))
    told = house.missed()
    assert (len(told.changes), told.more) == (MOST_TOLD, 3)
    assert house.missed().more == 3
    snapshot = house.heard[-2]
    assert isinstance(snapshot, Snapshot)
    house.feed.confirm(snapshot.sequence)
    assert house.missed() == MissedChangesReport(since=0)
    assert {len(str(value)) for value in values(told)} == {255}


def test_the_values_of_devices_that_come_and_go_are_forgotten() -> None:
    house = House()
    missed_changes = house.feed._missed_changes
    mode = Property(name="mode", title="Mode", kind=PropertyKind.TEXT, value=None)
    for number in range(1000):
        device = f"visitor-{number}"
        house.feed.publish(DeviceChanged(sequence=0, device=Device(id=device, title="V", properties=(mode, WET))))
        for name, value in (("mode", "x" * 1000), ("wet", True)):
            house.feed.publish(ValueChanged(sequence=0, device=device, property=name, value=value, age=0.0))
        house.feed.publish(DeviceChanged(sequence=0, device=Device(id=device, title="V", properties=(WET,))))
        assert missed_changes._values == {"leak": {"wet": False}, device: {"wet": True}}
        house.feed.publish(DeviceRemoved(sequence=0, device=device))
    assert missed_changes._values == {"leak": {"wet": False}}
