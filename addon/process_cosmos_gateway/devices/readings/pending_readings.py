"""SQL for held readings: open windows, and filter states (table ``device_gate``)."""

from collections.abc import Sequence
from dataclasses import dataclass

from process_cosmos_gateway.options import VolumeRule
from process_cosmos_gateway.store import Transaction

from .downsampling import LATE_SECONDS, AggregationWindow, FilterState, FilterStates, Point, window_start

_MAX_ROWS = 500
# If the clock was set back, a due time may be farther ahead than a point can be held: then it counts as due too.
_DUE_FILTER = "held_time IS NOT NULL AND NOT (due_at > :now AND due_at <= :now + :longest)"
_DUE_WINDOW = "NOT (due_at > :now AND due_at <= :now + length + :late)"


@dataclass(frozen=True, slots=True, kw_only=True)
class Series:
    """A property of a device, and its unit."""

    device: str
    name: str
    unit: str | None


def load_window(transaction: Transaction, number: int, rule: VolumeRule, point: Point) -> AggregationWindow | None:
    """Return the open window of a property that ``point`` belongs to, or None."""
    rows = transaction.rows(
        """SELECT time, value, count, due_at FROM device_window
           WHERE property = ? AND begin = ? AND length = ? AND aggregate = ?""",
        *(number, window_start(point, rule.window), rule.window, rule.aggregate),
    )
    return next(
        (AggregationWindow(point=Point(time, value), count=count, due_at=due) for time, value, count, due in rows), None
    )


def store_window(
    transaction: Transaction, number: int, series: Series, rule: VolumeRule, window: AggregationWindow
) -> None:
    """Store a window under the property and its start time."""
    transaction.run(
        # Length and aggregate are part of the key: if the rule changes, an open window ends under the old one.
        "INSERT OR REPLACE INTO device_window VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
        *(number, window_start(window.point, rule.window), rule.window, rule.aggregate),
        *(*window.point, window.count, series.unit, window.due_at),
    )


def pop_due_windows(transaction: Transaction, now: float) -> Sequence[tuple[Series, Point]]:
    """Delete at most ``_MAX_ROWS`` due windows; return the aggregate of each, in order of their start."""
    rows = transaction.rows(
        f"""SELECT property, begin, length, aggregate, id, name, unit, device_window.time, device_window.value
            FROM device_window JOIN device_property ON device_property.number = property
            JOIN device ON device.number = device WHERE {_DUE_WINDOW} ORDER BY begin LIMIT {_MAX_ROWS}""",  # noqa: S608 - our own words
        now=now,
        late=LATE_SECONDS,
    )
    transaction.run_many(
        "DELETE FROM device_window WHERE property = ? AND begin = ? AND length = ? AND aggregate = ?",
        (row[:4] for row in rows),
    )
    return [(Series(device=row[4], name=row[5], unit=row[6]), Point(*row[7:])) for row in rows]


def load_filter_states(transaction: Transaction, number: int) -> FilterStates:
    """Return the filter states of a property."""
    found = [FilterState(), FilterState()]
    for late, sent_time, sent_value, held_time, held_value, due_at in transaction.rows(
        "SELECT late, sent_time, sent_value, held_time, held_value, due_at FROM device_gate WHERE property = ?", number
    ):
        sent = None if sent_time is None else Point(sent_time, sent_value)
        held = None if held_time is None else Point(held_time, held_value)
        found[late] = FilterState(sent=sent, held=held, due_at=due_at)
    return FilterStates(front=found[0], late=found[1])


def store_filter_states(
    transaction: Transaction, number: int, series: Series, before: FilterStates, after: FilterStates
) -> None:
    """Store the filter states of a property that differ from ``before``."""
    for late, (old, new) in enumerate([(before.front, after.front), (before.late, after.late)]):
        if new != old:
            transaction.run(
                "INSERT OR REPLACE INTO device_gate VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                *(number, late, *(new.sent or (None, None)), *(new.held or (None, None)), series.unit, new.due_at),
            )


def load_due_filters(transaction: Transaction, now: float, longest: float) -> Sequence[tuple[int, Series]]:
    """Return at most ``_MAX_ROWS`` properties that hold a due reading, with their numbers."""
    rows = transaction.rows(
        f"""SELECT DISTINCT property, id, name, unit FROM device_gate
            JOIN device_property ON device_property.number = property
            JOIN device ON device.number = device WHERE {_DUE_FILTER} LIMIT {_MAX_ROWS}""",  # noqa: S608 - our own words
        now=now,
        longest=longest,
    )
    return [(number, Series(device=device, name=name, unit=unit)) for number, device, name, unit in rows]


def next_due(transaction: Transaction, now: float, longest: float) -> float | None:
    """Return when the next held reading or window is due, ``now`` if one is; None if nothing is held."""
    [(due,)] = transaction.rows(
        f"""SELECT min(due) FROM (
            SELECT iif({_DUE_FILTER}, :now, due_at) AS due FROM device_gate WHERE held_time IS NOT NULL
            UNION ALL SELECT iif({_DUE_WINDOW}, :now, due_at) FROM device_window)""",  # noqa: S608 - our own words
        now=now,
        longest=longest,
        late=LATE_SECONDS,
    )
    return None if due is None else float(due)
