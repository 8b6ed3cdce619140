"""Ledger and judge: items that are lost, repeated, out of order, or were never sent."""

import pytest

from process_cosmos_gateway.contract.destinations import Priority
from process_cosmos_testbed.judge import MOST_IN_COMMIT, Row, judge
from process_cosmos_testbed.ledger import UNNUMBERED, Arrival, Item, Ledger

HERE = ("here",)


def item(number: int, priority: Priority = Priority.CHANGE, key: str = "pump") -> Item:
    return Item(priority, key, number)


def sent(*items: Item, acknowledged: bool = True, at: float = 100.0) -> Ledger:
    ledger = Ledger(bound=1.5)
    for each in items:
        ledger.attempt(each, at, 5.0 if each.priority is Priority.READING else None)
        if acknowledged:
            ledger.acknowledge(each, at)
    return ledger


def arrives(ledger: Ledger, each: Item, event: str = "", *, fresh: bool = True, at: float | None = None) -> None:
    ledger.arrive("here", Arrival(item=each, event=event or f"e{each.number}", fresh=fresh, at=at), 101.0)


def arrives_at(ledger: Ledger, each: Item, moment: float) -> None:
    ledger.arrive("here", Arrival(item=each, event=f"e{each.number}", fresh=True), moment)


def row(ledger: Ledger, priority: Priority = Priority.CHANGE, dropped: int = 0) -> Row:
    return next(row for row in judge(ledger, HERE, {priority: dropped}).rows if row.priority is priority)


def test_what_was_acknowledged_and_arrived_is_ok() -> None:
    ledger = sent(item(1))
    arrives(ledger, item(1))
    assert row(ledger) == Row(priority=Priority.CHANGE, ok=1)
    assert ledger.slowest(Priority.CHANGE) == 1.0


def test_what_was_acknowledged_and_did_not_arrive_is_lost() -> None:
    assert row(sent(item(1))).lost == 1


def test_what_reached_one_of_two_destinations_is_lost() -> None:
    ledger = sent(item(1))
    arrives(ledger, item(1))
    [_, change, _] = judge(ledger, ("here", "there"), {}).rows
    assert (change.ok, change.lost) == (0, 1)


def test_what_is_lost_is_named_for_each_destination_where_it_is_missing() -> None:
    ledger = sent(*(item(number) for number in range(1, 14)), item(1, Priority.READING), item(1, key="valve"))
    for number in range(2, 14):
        arrives(ledger, item(number))
    arrives(ledger, item(1, key="valve"), "valve")
    ledger.cuts.append(101.0)
    result = judge(ledger, ("here", "there"), {})
    assert list(result.describe_missing()) == [
        "1 missing at here: change pump #1",
        "14 missing at there: " + ", ".join(f"change pump #{number}" for number in range(1, 11)) + ", …",
    ]
    assert not result.held


def test_what_may_be_lost_is_not_named() -> None:
    ledger = sent(item(1), item(1, Priority.READING))
    ledger.cuts.append(101.0)
    assert not judge(ledger, HERE, {Priority.CHANGE: 1}).missing


def test_a_drop_the_gateway_counted_is_no_loss_and_one_it_did_not_count_is() -> None:
    ledger = sent(item(1), item(2))
    assert (row(ledger, dropped=1).dropped_counted, row(ledger, dropped=1).lost) == (1, 1)


@pytest.mark.parametrize(("cut", "within"), [(101.0, 1), (101.6, 0), (99.9, 0)])
def test_only_a_reading_acknowledged_just_before_a_cut_may_be_lost(cut: float, within: int) -> None:
    ledger = sent(item(1, Priority.READING), item(1))
    ledger.attempt(item(2), 100.1)
    arrives_at(ledger, item(2), 100.2)
    ledger.cuts.append(cut)
    reading = row(ledger, Priority.READING)
    assert (reading.lost_within_bound, reading.lost) == (within, 1 - within)
    assert row(ledger).lost == 1


@pytest.mark.parametrize(
    ("said_at", "heard_at", "within"),
    [(100.1, 110.0, 0), (100.1, 120.1, 1), (99.9, 110.0, 1)],
    ids=["something later was there before the cut", "it came after the cut", "it was said before"],
)
def test_a_reading_the_broker_kept_may_be_lost_until_something_later_was_heard(
    said_at: float, heard_at: float, within: int
) -> None:
    ledger = sent(item(1, Priority.READING))
    ledger.attempt(item(2), said_at)
    arrives_at(ledger, item(2), heard_at)
    ledger.cuts.append(120.0)
    assert row(ledger, Priority.READING).lost_within_bound == within


def test_no_reading_is_kept_by_the_broker_for_ever() -> None:
    ledger = sent(item(1, Priority.READING))
    ledger.cuts.append(130.1)
    assert row(ledger, Priority.READING).lost == 1


def test_who_was_not_told_learns_whether_it_arrived() -> None:
    ledger = sent(item(1), item(2), acknowledged=False)
    ledger.doubt(item(1))
    arrives(ledger, item(1))
    assert row(ledger) == Row(priority=Priority.CHANGE, recovered=1, unknown=1)


def test_a_doubt_counts_also_when_an_acknowledgement_comes_later_and_never_after_one() -> None:
    ledger = sent(item(1), acknowledged=False)
    ledger.doubt(item(1))
    ledger.acknowledge(item(1), 101.0)
    ledger.doubt(item(1))
    arrives(ledger, item(1))
    assert row(ledger).recovered == 1


def test_another_event_with_the_same_content_is_a_duplicate_effect() -> None:
    ledger = sent(item(1))
    arrives(ledger, item(1), "first")
    arrives(ledger, item(1), "second")
    assert row(ledger).duplicate_effects == 1


@pytest.mark.parametrize(("broken", "marked", "duplicates"), [(1, 1, 0), (0, 0, 1)])
def test_a_marked_repeat_counts_apart_where_a_connection_was_broken(broken: int, marked: int, duplicates: int) -> None:
    ledger = sent(item(1), item(2))
    ledger.broken = broken
    arrives(ledger, item(1), "first")
    arrives(ledger, item(2))
    ledger.arrive("here", Arrival(item=item(1), event="second", fresh=True, marked=True))
    assert row(ledger) == Row(priority=Priority.CHANGE, ok=2, marked_repeats=marked, duplicate_effects=duplicates)


def test_more_marked_repeats_than_one_commit_for_each_broken_connection_are_duplicates() -> None:
    ledger = sent(item(1))
    ledger.broken = 1
    arrives(ledger, item(1), "first")
    for number in range(MOST_IN_COMMIT + 3):
        ledger.arrive("here", Arrival(item=item(1), event=f"again {number}", fresh=True, marked=True))
    assert (row(ledger).marked_repeats, row(ledger).duplicate_effects) == (MOST_IN_COMMIT, 3)


def test_a_repeat_the_destination_dropped_is_none() -> None:
    ledger = sent(item(1))
    arrives(ledger, item(1))
    arrives(ledger, item(1), fresh=False)
    assert (row(ledger).duplicate_effects, row(ledger).repeats_absorbed) == (0, 1)


@pytest.mark.parametrize(("rewound", "duplicates"), [(False, 1), (True, 0)])
def test_a_reading_in_another_pack_is_merged_by_its_key_only_where_a_damaged_or_copied_store_does_not_know_the_first(
    *, rewound: bool, duplicates: int
) -> None:
    ledger = sent(item(1, Priority.READING), item(2))
    ledger.rewound = rewound
    for event in ("first", "second"):
        arrives(ledger, item(1, Priority.READING), event, at=5.0)
        arrives(ledger, item(2), event)
    assert row(ledger, Priority.READING).duplicate_effects == duplicates
    assert row(ledger).duplicate_effects == 1


def test_things_alike_are_as_many_as_have_arrived_in_events_of_their_own() -> None:
    ledger = sent(item(1), item(2))
    unnumbered = item(UNNUMBERED)
    for event, fresh in (("first", True), ("first", False)):
        arrives(ledger, unnumbered, event, fresh=fresh)
    assert (row(ledger).ok, row(ledger).lost) == (1, 1)
    arrives(ledger, unnumbered, "second")
    assert row(ledger) == Row(priority=Priority.CHANGE, ok=2, repeats_absorbed=1)
    arrives(ledger, unnumbered, "third")
    assert row(ledger).unexpected == 1


def test_greetings_are_known_and_not_judged() -> None:
    ledger = sent()
    arrives(ledger, item(-1))
    assert row(ledger) == Row(priority=Priority.CHANGE)
    assert item(-1) in ledger.there["here"]


def test_an_urgent_event_waits_from_the_moment_it_was_to_be_sent() -> None:
    ledger = sent(item(1, Priority.URGENT), acknowledged=False, at=100.0)
    ledger.attempt(item(1, Priority.URGENT), 107.0)
    [urgent] = ledger.sent(Priority.URGENT, 100.0, 101.0)
    assert urgent.waited(now=109.0) == 9.0
    ledger.acknowledge(item(1, Priority.URGENT), 108.0)
    assert urgent.waited(now=109.0) == 8.0
    assert not ledger.sent(Priority.URGENT, 101.0, 102.0)


def test_order_counts_within_a_key() -> None:
    ledger = sent(item(1), item(2), item(1, key="valve"))
    for each in (item(2), item(1), item(1, key="valve")):
        arrives(ledger, each)
    assert row(ledger).order_violations == 1


def test_what_was_refused_and_sent_again_by_a_person_may_come_late() -> None:
    ledger = sent(item(1), item(2))
    ledger.refused.add(item(1))
    arrives(ledger, item(2))
    arrives(ledger, item(1))
    assert row(ledger).order_violations == 0


def test_what_nobody_sent_and_a_reading_with_another_time_are_unexpected() -> None:
    ledger = sent(item(1, Priority.READING))
    arrives(ledger, item(1, Priority.READING), at=6.0)
    arrives(ledger, item(2, Priority.READING), at=5.0)
    assert row(ledger, Priority.READING).unexpected == 2


def test_the_next_fault_begins_with_clean_books() -> None:
    ledger = sent(item(1))
    ledger.cuts.append(1.0)
    ledger.start_next_round()
    arrives(ledger, item(1))
    assert row(ledger) == Row(priority=Priority.CHANGE)
    assert not ledger.cuts
