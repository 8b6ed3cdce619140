"""What readings are thinned to before they leave the site: functions of values, by the readings' own times.

Of a property's readings a rule lets one leave for each window (``aggregate``), holds back changes smaller than
``deadband``, and lets one leave in ``every`` seconds: the first at once, then the newest as soon as the time is over.
Every reading is_forwarded, is thinned, or waits in a window or at a state; none is lost between.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from typing import NamedTuple

from process_cosmos_gateway.contract.identifiers import join_names
from process_cosmos_gateway.devices.options import Aggregate, VolumeRule

LATE_SECONDS = 5.0
"""For so long after its end a window still takes readings that come late."""


class Point(NamedTuple):
    """A number and when it was so, seconds since 1970 by the device's clock."""

    time: float
    value: float


def rule_for(rules: Sequence[VolumeRule], device: str, name: str) -> VolumeRule | None:
    """Return the first rule that matches a property; None: all its readings leave.

    The property's own ``/`` is percent-encoded, the device's stays: whatever the names, the last ``/`` parts the two.
    """
    if not rules:
        return None
    path = f"{device}/{join_names(name)}"
    return next((rule for rule in rules if fnmatchcase(path, rule.match)), None)


@dataclass(frozen=True, slots=True, kw_only=True)
class AggregationWindow:
    """``count`` readings of one window as one: ``point``. It is_forwarded at ``due_at``, by the gateway's clock.

    The least, the greatest and the last keep their own time; a mean has that of the newest reading.
    """

    point: Point
    count: int
    due_at: float


def window_start(point: Point, length: float) -> float:
    """Return when the window began that ``point`` belongs to: windows begin with 1970."""
    return point.time // length * length


def add_to_window(
    window: AggregationWindow | None, rule: VolumeRule, point: Point, received: float
) -> AggregationWindow:
    """Return the window with ``point``.

    It is due soon after its end; a backlog's soon after it came; with a device's clock that is ahead after its length.
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
            mean = before.value + (point.value / count - before.value / count)  # the difference may be infinite
            as_one = Point(max(before.time, point.time), mean)
    return AggregationWindow(point=as_one, count=count, due_at=max(window.due_at, due_at))


@dataclass(frozen=True, slots=True, kw_only=True)
class FilterState:
    """What left last, and what waits until ``due_at`` (by the gateway's clock) because too little time has passed."""

    sent: Point | None = None
    held: Point | None = None
    due_at: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class FilterStates:
    """The states of one property. What is older than what left last goes by ``late``.

    So a backlog and live readings that come by turns do not make each other leave.
    """

    front: FilterState = field(default_factory=FilterState)
    late: FilterState = field(default_factory=FilterState)

    @property
    def held_count(self) -> int:
        """How many readings wait."""
        return sum(state.held is not None for state in (self.front, self.late))


def filter_point(states: FilterStates, rule: VolumeRule, point: Point, received: float) -> tuple[FilterStates, bool]:
    """Return the states after ``point``, and whether it is_forwarded now."""
    if states.front.sent is not None and point.time < states.front.sent.time:
        late, is_forwarded = _apply_rule(states.late, rule, point, received)
        return replace(states, late=late), is_forwarded
    front, is_forwarded = _apply_rule(states.front, rule, point, received)
    # What left of a backlog before says nothing of one that comes after this.
    late = replace(states.late, sent=None) if is_forwarded else states.late
    return FilterStates(front=front, late=late), is_forwarded


def _apply_rule(state: FilterState, rule: VolumeRule, point: Point, received: float) -> tuple[FilterState, bool]:
    if state.sent is None:
        return FilterState(sent=point), True
    left = rule.every - abs(point.time - state.sent.time)
    if left > 0 and state.held is not None and point.time < state.held.time:
        return state, False
    if abs(point.value - state.sent.value) < rule.deadband:
        return FilterState(sent=state.sent), False
    if left > 0:
        return FilterState(sent=state.sent, held=point, due_at=received + left), False
    return FilterState(sent=point), True


def release_due(states: FilterStates, now: float, longest: float) -> tuple[FilterStates, Sequence[Point]]:
    """Return the states without what need not wait any more, and that; nothing waits for longer than ``longest``."""
    due = {
        side: state.held
        for side, state in (("front", states.front), ("late", states.late))
        if state.held is not None and not now < state.due_at <= now + longest
    }
    return replace(states, **{side: replace(getattr(states, side), held=None) for side in due}), tuple(due.values())
