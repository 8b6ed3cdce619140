"""Downsampling of readings before they are forwarded: functions of values, by the readings' own times.

A rule forwards one value for each window (``aggregate``), drops changes smaller than ``deadband``, and forwards at
most one reading in ``every`` seconds: the first at once, then the newest once the interval has passed. Every reading is
forwarded, dropped and counted as thinned, or held in a window or filter; none is lost in between.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from typing import NamedTuple

from process_cosmos_gateway.contract.identifiers import join_names
from process_cosmos_gateway.options import Aggregate, VolumeRule

LATE_SECONDS = 5.0
"""Seconds after its end for which a window still accepts late readings."""


class Point(NamedTuple):
    """A number and its time, in seconds since 1970 by the device's clock."""

    time: float
    value: float


def rule_for(rules: Sequence[VolumeRule], device: str, name: str) -> VolumeRule | None:
    """Return the first rule that matches a property; None: all its readings are forwarded.

    ``/`` in the property's name is percent-encoded, in the device's id it is not, so the last ``/`` always separates
    the two.
    """
    if not rules:
        return None
    path = f"{device}/{join_names(name)}"
    return next((rule for rule in rules if fnmatchcase(path, rule.match)), None)


@dataclass(frozen=True, slots=True, kw_only=True)
class AggregationWindow:
    """The aggregate of ``count`` readings in one window, forwarded at ``due_at`` by the gateway's clock.

    Minimum, maximum and last keep their own time; a mean has that of the newest reading.
    """

    point: Point
    count: int
    due_at: float


def window_start(point: Point, length: float) -> float:
    """Return the start of the window that ``point`` belongs to; windows are aligned to 1970."""
    return point.time // length * length


def add_to_window(
    window: AggregationWindow | None, rule: VolumeRule, point: Point, received: float
) -> AggregationWindow:
    """Return the window with ``point`` added.

    It is due ``LATE_SECONDS`` after its end; for a backlog, after the receipt; if the device's clock is ahead, one
    window length after the receipt.
    """
    end = window_start(point, rule.window) + rule.window
    due_at = max(received, min(end, received + rule.window)) + LATE_SECONDS
    if window is None:
        return AggregationWindow(point=point, count=1, due_at=due_at)
    count, before = window.count + 1, window.point
    match rule.aggregate:
        case Aggregate.MIN:
            as_one = min(before, point, key=lambda each: each.value)
        case Aggregate.MAX:
            as_one = max(before, point, key=lambda each: each.value)
        case Aggregate.LAST:
            as_one = max(point, before, key=lambda each: each.time)
        case _:
            mean = before.value + (point.value / count - before.value / count)  # the plain difference may overflow
            as_one = Point(max(before.time, point.time), mean)
    return AggregationWindow(point=as_one, count=count, due_at=max(window.due_at, due_at))


@dataclass(frozen=True, slots=True, kw_only=True)
class FilterState:
    """The point forwarded last, and one held until ``due_at`` (gateway's clock) because ``every`` has not passed."""

    sent: Point | None = None
    held: Point | None = None
    due_at: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class FilterStates:
    """The filter states of one property; points older than the one forwarded last go through ``late``.

    With two states, a backlog and live readings that alternate do not reset each other.
    """

    front: FilterState = field(default_factory=FilterState)
    late: FilterState = field(default_factory=FilterState)

    @property
    def held_count(self) -> int:
        """How many readings are held."""
        return sum(state.held is not None for state in (self.front, self.late))


def filter_point(states: FilterStates, rule: VolumeRule, point: Point, received: float) -> tuple[FilterStates, bool]:
    """Return the states after ``point``, and whether to forward it now."""
    if states.front.sent is not None and point.time < states.front.sent.time:
        late, is_forwarded = _apply_rule(states.late, rule, point, received)
        return replace(states, late=late), is_forwarded
    front, is_forwarded = _apply_rule(states.front, rule, point, received)
    # The point forwarded last from one backlog is no reference for the next one.
    late = replace(states.late, sent=None) if is_forwarded else states.late
    return FilterStates(front=front, late=late), is_forwarded


def _apply_rule(state: FilterState, rule: VolumeRule, point: Point, received: float) -> tuple[FilterState, bool]:
    if state.sent is None:
        return FilterState(sent=point), True
    left = rule.every - abs(point.time - state.sent.time)
    if left > 0 and state.held is not None and point.time < state.held.time:
        return state, False
    # A value that has returned also replaces the held one: the receiver has it already.
    if abs(point.value - state.sent.value) < rule.deadband:
        return FilterState(sent=state.sent), False
    if left > 0:
        return FilterState(sent=state.sent, held=point, due_at=received + left), False
    return FilterState(sent=point), True


def release_due(states: FilterStates, now: float, longest: float) -> tuple[FilterStates, Sequence[Point]]:
    """Return the states without the points that are due, and these points.

    A point is also due if it would be held for longer than ``longest``, because the clock was set back.
    """
    due = {
        side: state.held
        for side, state in (("front", states.front), ("late", states.late))
        if state.held is not None and not now < state.due_at <= now + longest
    }
    return replace(states, **{side: replace(getattr(states, side), held=None) for side in due}), tuple(due.values())
