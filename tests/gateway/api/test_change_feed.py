"""Change feed: numbers, replays, snapshots and reports of missed changes."""

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import pytest

from process_cosmos_gateway.api.change_feed import ChangeFeed
from process_cosmos_gateway.api.missed_changes import MOST_REPORTED
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
    """Clock set by the test."""

    wall: datetime = datetime(2026, 11, 22, tzinfo=UTC)
    seconds: float = 0.0

    def now(self) -> datetime:
        return self.wall + timedelta(seconds=self.seconds)

    def monotonic(self) -> float:
        return self.seconds


@dataclass
class FeedHarness:
    """Feed, its clock, and the messages its subscriber received."""

    clock: HandClock = field(default_factory=HandClock)
    received: list[DeviceChange | Snapshot | MissedChangesReport] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.feed = ChangeFeed(self.clock, lambda: DEVICES)

    def restart(self) -> None:
        self.__post_init__()

    def wet(self, value: bool, age: float = 0.5) -> None:  # noqa: FBT001
        self.feed.publish(ValueChanged(sequence=0, device="leak", property="wet", value=value, age=age))

    def subscribe(
        self, run: Ulid = RUN, after: int | None = None
    ) -> list[DeviceChange | Snapshot | MissedChangesReport]:
        self.received.clear()
        self.feed.subscribe(Subscribe(id="1", run=run, after=after), self.received.append)
        return list(self.received)

    def missed(self, run: Ulid = OTHER_RUN, after: int | None = None, confirmed: int = 0) -> MissedChangesReport:
        """Subscribe again and return the report of missed changes."""
        self.received.clear()
        request = Subscribe(id="1", run=run, after=after, report_missed=True, confirmed=confirmed)
        self.feed.subscribe(request, self.received.append)
        report = self.received[-1]
        assert isinstance(report, MissedChangesReport)
        return report

    def last_number(self) -> int:
        last = self.received[-1]
        assert not isinstance(last, MissedChangesReport)
        return last.sequence


@pytest.fixture
def harness() -> FeedHarness:
    return FeedHarness()


def replayed(received: list[DeviceChange | Snapshot | MissedChangesReport]) -> list[object]:
    assert isinstance(received[-1], Snapshot)
    return [change.value for change in received[:-1] if isinstance(change, ValueChanged)]


def test_the_first_subscriber_gets_the_snapshot_and_then_numbered_changes(harness: FeedHarness) -> None:
    harness.wet(True)
    (snapshot,) = harness.subscribe()
    assert isinstance(snapshot, Snapshot)
    assert snapshot.devices == DEVICES
    harness.wet(False)
    harness.feed.publish(AvailabilityChanged(sequence=0, device="leak", online=False))
    assert [
        change.sequence - snapshot.sequence
        for change in harness.received
        if not isinstance(change, MissedChangesReport)
    ] == [
        0,
        1,
        2,
    ]


def test_changes_missed_by_the_same_run_are_replayed_first_with_their_age(harness: FeedHarness) -> None:
    harness.subscribe()
    harness.wet(True)
    seen = harness.last_number()
    harness.feed.unsubscribe()
    harness.wet(False, age=0.5)
    harness.clock.seconds += 20
    harness.wet(True)
    first, *_ = received = harness.subscribe(after=seen)
    assert replayed(received) == [False, True]
    assert isinstance(first, ValueChanged)
    assert first.age == 20.5
    assert first.received == harness.clock.seconds - 20, "when the device's message was received"


def test_changes_already_received_are_not_replayed(harness: FeedHarness) -> None:
    harness.subscribe()
    harness.wet(True)
    assert replayed(harness.subscribe(after=harness.last_number())) == []


def test_a_change_older_than_a_minute_is_not_replayed(harness: FeedHarness) -> None:
    harness.subscribe()
    seen = harness.last_number()
    harness.wet(True)
    harness.clock.seconds += 61
    assert replayed(harness.subscribe(after=seen)) == []
    harness.wet(False)
    assert replayed(harness.subscribe(after=seen)) == [False]


def test_another_run_of_home_assistant_gets_no_replay(harness: FeedHarness) -> None:
    harness.subscribe()
    seen = harness.last_number()
    harness.wet(True)
    assert replayed(harness.subscribe(run=OTHER_RUN, after=seen)) == []


def test_after_a_restart_of_the_gateway_numbers_continue_and_new_changes_are_replayed(harness: FeedHarness) -> None:
    harness.subscribe()
    harness.wet(True)
    seen = harness.last_number()
    harness.clock.seconds += 2
    harness.restart()
    harness.wet(False)
    assert replayed(harness.subscribe(after=seen)) == [False]
    assert harness.last_number() > seen


def test_after_a_restart_with_the_clock_set_back_new_changes_are_replayed_too(harness: FeedHarness) -> None:
    harness.subscribe()
    seen = harness.last_number()
    harness.clock.wall -= timedelta(days=1)
    harness.restart()
    harness.wet(True)
    assert replayed(harness.subscribe(after=seen)) == [True]


def test_after_unsubscribing_nothing_is_sent(harness: FeedHarness) -> None:
    harness.subscribe()
    harness.feed.unsubscribe()
    harness.wet(True)
    assert len(harness.received) == 1


def test_of_a_flood_the_newest_ten_thousand_changes_are_kept(harness: FeedHarness) -> None:
    harness.subscribe()
    seen = harness.last_number()
    harness.feed.unsubscribe()
    for number in range(10_001):
        harness.wet(bool(number))
    assert len(harness.subscribe(after=seen)) == 10_001


def values(report: MissedChangesReport) -> list[object]:
    return [missed.value for missed in report.changes]


def test_changes_during_an_absence_are_reported_with_their_age(harness: FeedHarness) -> None:
    harness.missed()
    harness.clock.seconds += 10
    harness.feed.confirm(0)
    harness.feed.unsubscribe()
    harness.clock.seconds += 100
    harness.wet(True, age=5)
    harness.clock.seconds += 20
    harness.wet(False)
    harness.feed.publish(EventHappened(sequence=0, device="leak", event="pressed", age=0))
    harness.clock.seconds += 80
    report = harness.missed()
    assert report.since == 200
    assert report.changes == (
        MissedChange(device="leak", age=105, property="wet", value=True),
        MissedChange(device="leak", age=80.5, property="wet", value=False),
        MissedChange(device="leak", age=80, event="pressed"),
    )
    assert isinstance(harness.received[-2], Snapshot)


def test_numbers_and_repeated_values_are_not_reported(harness: FeedHarness) -> None:
    harness.wet(False)
    harness.feed.publish(ValueChanged(sequence=0, device="leak", property="level", value=3, age=0))
    harness.wet(True)
    harness.wet(True)
    assert values(harness.missed()) == [True]


def test_replayed_changes_are_not_reported_as_missed(harness: FeedHarness) -> None:
    harness.subscribe()
    seen = harness.last_number()
    harness.clock.seconds += 10
    harness.feed.unsubscribe()
    harness.wet(True)
    harness.clock.seconds += 61
    harness.wet(False)
    report = harness.missed(RUN, seen)
    assert values(report) == [True]
    assert [change.value for change in harness.received if isinstance(change, ValueChanged)] == [False]


def test_changes_sent_over_a_broken_link_are_reported_in_the_next_session(harness: FeedHarness) -> None:
    harness.missed()
    harness.wet(True)
    harness.feed.confirm(harness.last_number())
    harness.clock.seconds += 30  # the link is broken, unnoticed by both sides
    harness.wet(False)
    harness.wet(True)
    harness.feed.unsubscribe()
    harness.clock.seconds += 30
    report = harness.missed()
    assert values(report) == [False, True]
    assert report.since == 60


def test_reports_are_repeated_until_confirmed(harness: FeedHarness) -> None:
    harness.wet(True)
    assert values(harness.missed()) == [True]
    harness.clock.seconds += 60
    harness.feed.unsubscribe()
    assert values(harness.missed()) == [True]
    snapshot = harness.received[-2]
    assert isinstance(snapshot, Snapshot)
    harness.feed.confirm(snapshot.sequence)
    harness.feed.unsubscribe()
    assert harness.missed().changes == ()


def test_a_change_replayed_over_a_broken_link_is_reported_once_too_old_for_a_replay(harness: FeedHarness) -> None:
    harness.subscribe()
    seen = harness.last_number()
    harness.feed.unsubscribe()
    harness.wet(True)
    assert harness.missed(RUN, seen, seen).changes == ()
    assert [change.value for change in harness.received if isinstance(change, ValueChanged)] == [True]
    harness.feed.unsubscribe()
    harness.clock.seconds += 61
    assert values(harness.missed(RUN, seen, seen)) == [True]


def test_the_same_run_confirms_what_it_had_processed_when_the_link_broke(harness: FeedHarness) -> None:
    harness.missed()
    harness.wet(True)
    processed = harness.last_number()
    harness.wet(False)
    harness.feed.unsubscribe()
    harness.clock.seconds += 61
    assert values(harness.missed(RUN, processed, processed)) == [False]


def test_a_number_from_before_the_clock_was_set_back_confirms_nothing(harness: FeedHarness) -> None:
    harness.missed()
    harness.wet(True)
    harness.feed.unsubscribe()
    assert values(harness.missed(confirmed=harness.last_number() + 1_000)) == [True]


def test_of_a_long_absence_the_newest_are_reported_and_the_rest_counted(harness: FeedHarness) -> None:
    for number in range(MOST_REPORTED + 3):
        harness.feed.publish(ValueChanged(sequence=0, device="leak", property="state", value=f"{number:0300}", age=0))
    report = harness.missed()
    assert (len(report.changes), report.more) == (MOST_REPORTED, 3)
    assert harness.missed().more == 3
    snapshot = harness.received[-2]
    assert isinstance(snapshot, Snapshot)
    harness.feed.confirm(snapshot.sequence)
    assert harness.missed() == MissedChangesReport(since=0)
    assert {len(str(value)) for value in values(report)} == {255}


def test_the_values_of_removed_devices_are_forgotten() -> None:
    harness = FeedHarness()
    missed_changes = harness.feed._missed_changes
    mode = Property(name="mode", title="Mode", kind=PropertyKind.TEXT, value=None)
    for number in range(1000):
        device = f"visitor-{number}"
        harness.feed.publish(DeviceChanged(sequence=0, device=Device(id=device, title="V", properties=(mode, WET))))
        for name, value in (("mode", "x" * 1000), ("wet", True)):
            harness.feed.publish(ValueChanged(sequence=0, device=device, property=name, value=value, age=0.0))
        harness.feed.publish(DeviceChanged(sequence=0, device=Device(id=device, title="V", properties=(WET,))))
        assert missed_changes._values == {"leak": {"wet": False}, device: {"wet": True}}
        harness.feed.publish(DeviceRemoved(sequence=0, device=device))
    assert missed_changes._values == {"leak": {"wet": False}}
