"""Downsampling of readings, as functions of values."""

from collections.abc import Sequence
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from process_cosmos_gateway.devices.readings.downsampling import (
    LATE_SECONDS,
    AggregationWindow,
    FilterState,
    FilterStates,
    Point,
    add_to_window,
    filter_point,
    release_due,
    rule_for,
)
from process_cosmos_gateway.options import Aggregate, VolumeRule

NOON = 1_800_000_000.0
POINTS = st.lists(
    st.builds(Point, st.integers(0, 300).map(lambda second: NOON + second), st.integers(-50, 50).map(float)),
    max_size=60,
)
RULES = st.builds(
    VolumeRule, match=st.just("*"), deadband=st.sampled_from([0.0, 1.0, 10.0]), every=st.sampled_from([0.0, 7.0, 60.0])
)


def forwarded_of(
    rule: VolumeRule, points: Sequence[Point], states: FilterStates | None = None
) -> tuple[list[Point], FilterStates]:
    """Return the points forwarded at once, if each is received at its own time, and the states afterwards."""
    left, states = [], states or FilterStates()
    for point in points:
        states, is_forwarded = filter_point(states, rule, point, point.time)
        left += [point] if is_forwarded else []
    return left, states


def series(*values: float, every: float = 1.0, begin: float = NOON) -> list[Point]:
    return [Point(begin + number * every, value) for number, value in enumerate(values)]


def test_the_first_matching_rule_applies() -> None:
    rules = [VolumeRule(match="wot/tank/level"), VolumeRule(match="wot/*/level", every=1), VolumeRule(match="*l[xy]")]
    assert rule_for(rules, "wot/tank", "level") is rules[0]
    assert rule_for(rules, "wot/cellar/left", "level") is rules[1]
    assert rule_for(rules, "wot/tank", "LEVEL") is None
    assert rule_for(rules, "wot/tank", "lx") is rules[2]


def test_names_with_slashes_are_never_confused() -> None:
    rules = [VolumeRule(match="wot/kitchen/leak"), VolumeRule(match="wot/kitchen%2Fleak"), VolumeRule(match="*/100%25")]
    assert rule_for(rules, "wot/kitchen", "leak") is rules[0]
    assert rule_for(rules, "wot", "kitchen/leak") is rules[1]
    assert rule_for(rules, "wot/kitchen", "leak%2Fleak") is None
    assert rule_for(rules, "wot", "kitchen%2Fleak") is None
    assert rule_for(rules, "wot/tank", "100%") is rules[2]


def test_changes_below_the_deadband_are_dropped_until_they_add_up_to_it() -> None:
    left, _ = forwarded_of(VolumeRule(match="*", deadband=1), series(20, 20.4, 20.8, 21.2, 20.9, 20.1))
    assert [point.value for point in left] == [20, 21.2, 20.1]


def test_the_first_reading_of_an_interval_is_forwarded_at_once_and_the_newest_at_its_end() -> None:
    rule = VolumeRule(match="*", every=10)
    left, states = forwarded_of(rule, series(1, 2, 3))
    assert left == [Point(NOON, 1)]
    assert release_due(states, NOON + 9, 10) == (states, ())
    after, held = release_due(states, NOON + 10, 10)
    assert held == (Point(NOON + 2, 3),)
    assert after.held_count == 0


def test_a_value_that_returns_within_the_interval_is_not_forwarded() -> None:
    left, states = forwarded_of(VolumeRule(match="*", every=10, deadband=1), series(1, 5, 1.5))
    assert [point.value for point in left] == [1]
    assert states.held_count == 0


def test_a_clock_set_back_holds_no_reading_for_longer_than_the_interval() -> None:
    _, states = forwarded_of(VolumeRule(match="*", every=10), series(1, 2))
    assert release_due(states, NOON - 1000, 10)[1] == (Point(NOON + 1, 2),)


def test_alternating_live_readings_and_backlog_are_thinned_separately() -> None:
    rule = VolumeRule(match="*", every=60)
    live, backlog = series(*range(6), every=10), series(*range(6), every=10, begin=NOON - 3600)
    alternating = [point for pair in zip(live, backlog, strict=True) for point in pair]
    left, states = forwarded_of(rule, alternating)
    assert left == [live[0], backlog[0]]
    assert states.held_count == 2


def test_a_backlog_is_not_compared_with_one_from_before_the_last_live_reading() -> None:
    rule = VolumeRule(match="*", deadband=1)
    _, states = forwarded_of(rule, [Point(NOON, 30), Point(NOON - 100, 20), Point(NOON + 1000, 40)])
    left, _ = forwarded_of(rule, [Point(NOON + 500, 20.1)], states)
    assert left == [Point(NOON + 500, 20.1)]


@given(points=POINTS, rule=RULES)
def test_every_reading_is_forwarded_thinned_or_held(points: list[Point], rule: VolumeRule) -> None:
    states, left, thinned = FilterStates(), 0, 0
    for point in points:
        after, is_forwarded = filter_point(states, rule, point, point.time)
        assert 0 <= 1 - is_forwarded - (after.held_count - states.held_count) <= 2
        thinned += 1 - is_forwarded - (after.held_count - states.held_count)
        left += is_forwarded
        states = after
    assert left + thinned + states.held_count == len(points)
    if not rule.deadband and not rule.every:
        assert left == len(points)


@given(points=POINTS.map(sorted), rule=RULES)
def test_in_order_forwarded_readings_keep_the_interval_and_the_deadband(points: list[Point], rule: VolumeRule) -> None:
    left, states = forwarded_of(rule, points)
    assert all(later.time - earlier.time >= rule.every for earlier, later in pairwise(left))
    assert all(abs(later.value - earlier.value) >= rule.deadband for earlier, later in pairwise(left))
    if points:
        newest = states.front.held or states.front.sent
        assert newest is not None
        assert abs(points[-1].value - newest.value) < max(rule.deadband, 1e-9)  # a receiver knows the last value


@pytest.mark.parametrize(
    ("aggregate", "as_one"),
    [
        (Aggregate.MEAN, Point(NOON + 9, 4)),
        (Aggregate.MIN, Point(NOON + 3, 1)),
        (Aggregate.MAX, Point(NOON, 8)),
        (Aggregate.LAST, Point(NOON + 9, 3)),
    ],
)
def test_a_window_is_forwarded_as_one_value(aggregate: Aggregate, as_one: Point) -> None:
    rule = VolumeRule(match="*", aggregate=aggregate, window=60)
    window: AggregationWindow | None = None
    for point in (Point(NOON, 8), Point(NOON + 9, 3), Point(NOON + 3, 1)):
        window = add_to_window(window, rule, point, point.time)
    assert window is not None
    assert (window.point, window.count) == (as_one, 3)


def test_a_mean_of_huge_numbers_does_not_overflow() -> None:
    rule = VolumeRule(match="*", aggregate=Aggregate.MEAN, window=60)
    window = add_to_window(add_to_window(None, rule, Point(NOON, 1.7e308), NOON), rule, Point(NOON, -1.7e308), NOON)
    assert window.point == Point(NOON, 0.0)


def test_a_window_is_due_after_its_end_or_its_receipt_and_never_later_than_its_length() -> None:
    rule = VolumeRule(match="*", aggregate=Aggregate.MEAN, window=60)
    assert add_to_window(None, rule, Point(NOON + 20, 1), NOON + 20).due_at == NOON + 60 + LATE_SECONDS
    assert add_to_window(None, rule, Point(NOON, 1), NOON + 5000).due_at == NOON + 5000 + LATE_SECONDS
    assert add_to_window(None, rule, Point(NOON + 1e8, 1), NOON).due_at == NOON + 60 + LATE_SECONDS


def test_a_held_late_reading_stays_when_a_live_one_is_forwarded() -> None:
    late = FilterState(sent=Point(NOON - 50, 1), held=Point(NOON - 40, 2), due_at=NOON + 1)
    states, is_forwarded = filter_point(
        FilterStates(front=FilterState(sent=Point(NOON, 1)), late=late), VolumeRule(match="*"), Point(NOON + 1, 1), 0
    )
    assert is_forwarded
    assert states.held_count == 1
