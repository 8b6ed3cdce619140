"""What readings are thinned to before they leave the site: functions of values, by the readings' own times.

Of a property's readings a rule lets one leave for each window (``aggregate``), holds back changes smaller than
``deadband``, and lets one leave in ``every`` seconds: the first at once, then the newest as soon as the time is over.
Every reading leaves, is thinned, or waits in a window or at a gate; none is lost between.
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
class Window:
    """``count`` readings of one window as one: ``point``. It leaves at ``due_at``, by the gateway's clock.

    The least, the greatest and the last keep their own time; a mean has that of the newest reading.
    """

    point: Point
    count: int
    due_at: float


def begin_of(point: Point, length: float) -> float:
    """Return when the window began that ``point`` belongs to: windows begin with 1970."""
    return point.time // length * length


def folded(window: Window | None, rule: VolumeRule, point: Point, received: float) -> Window:
    """Return the window with ``point``.

    It is due soon after its end; a backlog's soon after it came; with a device's clock that is ahead after its length.
    """
    end = begin_of(point, rule.window) + rule.window
    due_at = max(received, min(end, received + rule.window)) + LATE_SECONDS
    if window is None:
        return Window(point=point, count=1, due_at=due_at)
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
    return Window(point=as_one, count=count, due_at=max(window.due_at, due_at))


@dataclass(frozen=True, slots=True, kw_only=True)
class Gate:
    """What left last, and what waits until ``due_at`` (by the gateway's clock) because too little time has passed."""

    sent: Point | None = None
    held: Point | None = None
    due_at: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Gates:
    """The gates of one property. What is older than what left last goes by ``late``.

    So a backlog and live readings that come by turns do not make each other leave.
    """

    front: Gate = field(default_factory=Gate)
    late: Gate = field(default_factory=Gate)

    @property
    def waiting(self) -> int:
        """How many readings wait."""
        return sum(gate.held is not None for gate in (self.front, self.late))


def admit(gates: Gates, rule: VolumeRule, point: Point, received: float) -> tuple[Gates, bool]:
    """Return the gates after ``point``, and whether it leaves now."""
    if gates.front.sent is not None and point.time < gates.front.sent.time:
        late, leaves = _through(gates.late, rule, point, received)
        return replace(gates, late=late), leaves
    front, leaves = _through(gates.front, rule, point, received)
    # What left of a backlog before says nothing of one that comes after this.
    late = replace(gates.late, sent=None) if leaves else gates.late
    return Gates(front=front, late=late), leaves


def _through(gate: Gate, rule: VolumeRule, point: Point, received: float) -> tuple[Gate, bool]:
    if gate.sent is None:
        return Gate(sent=point), True
    left = rule.every - abs(point.time - gate.sent.time)
    if left > 0 and gate.held is not None and point.time < gate.held.time:
        return gate, False
    if abs(point.value - gate.sent.value) < rule.deadband:
        return Gate(sent=gate.sent), False
    if left > 0:
        return Gate(sent=gate.sent, held=point, due_at=received + left), False
    return Gate(sent=point), True


def opened(gates: Gates, now: float, longest: float) -> tuple[Gates, Sequence[Point]]:
    """Return the gates without what need not wait any more, and that; nothing waits for longer than ``longest``."""
    due = {
        side: gate.held
        for side, gate in (("front", gates.front), ("late", gates.late))
        if gate.held is not None and not now < gate.due_at <= now + longest
    }
    return replace(gates, **{side: replace(getattr(gates, side), held=None) for side in due}), tuple(due.values())
