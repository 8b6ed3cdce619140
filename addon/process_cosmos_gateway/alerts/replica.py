"""Replica of the integration's alerts and their notification requests, in the store."""

import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import astuple, dataclass, fields
from datetime import datetime
from itertools import accumulate
from typing import Any

import orjson

from process_cosmos_gateway.contract.alerts import AlertEvent, AlertState, AlertSummary, Change, Replica
from process_cosmos_gateway.contract.bounds import write_json
from process_cosmos_gateway.contract.codec import MAX_FRAME, parse
from process_cosmos_gateway.contract.durations import CLOSED_ALERTS_KEPT
from process_cosmos_gateway.contract.errors import ContractError
from process_cosmos_gateway.contract.identifiers import NotificationKey, Position, Ulid
from process_cosmos_gateway.outbox import Event
from process_cosmos_gateway.store import Store, Transaction
from process_cosmos_gateway.store.errors import ROW_UNREADABLE
from process_cosmos_gateway.store.transaction import Row

from .events import request_event_id, transition_event
from .notification_requests import RequestState, TrackedRequest

_LOGGER = logging.getLogger(__name__)
_UNREADABLE = (ContractError, KeyError, TypeError, ValueError)
"""Exceptions raised by parsing a row written by another version or damaged by the disk."""

_MOST_CLOSED_SUMMARIES = 1_000
_LONGEST_SUMMARIES = MAX_FRAME * 3 // 4
"""Bytes of all summaries. A ``GatewayHello`` too long for a frame would lock Home Assistant out permanently."""

_KEY = [field.name for field in fields(NotificationKey)]
_SELECT_REQUESTS = f"SELECT {', '.join(_KEY)}, due, due_away, state, settled_at FROM notification_request"  # noqa: S608 - our own names


@dataclass(frozen=True, slots=True)
class AliveAlert:
    """Alive alert; times are steady.

    ``notify_at``: the time of a rescheduled notification, or the end of an acknowledgement.
    """

    replica: Replica
    notify_at: float | None
    until: float

    @property
    def silent_until(self) -> float:
        """The end of an acknowledgement; -inf without one."""
        acknowledged = self.replica.state is AlertState.ACKNOWLEDGED
        return self.notify_at if acknowledged and self.notify_at is not None else float("-inf")


def read_cursor(transaction: Transaction) -> Position | None:
    """Return the position of the newest transition applied."""
    state: dict[str, Any] = dict(transaction.rows("SELECT key, value FROM alert_state WHERE key IN ('run', 'n')"))
    return Position(run=Ulid(state["run"]), n=state["n"]) if state else None


def save_state(transaction: Transaction, **values: str | float) -> None:
    """Store values in ``alert_state``, by key."""
    transaction.run_many("INSERT OR REPLACE INTO alert_state VALUES (?, ?)", values.items())


def find_closed(transaction: Transaction, alert: Ulid) -> Replica | None:
    """Return ``alert`` from the replica if it is closed, otherwise None."""
    rows = transaction.rows("SELECT body FROM alert WHERE id = ? AND alive = 0", alert)
    return next((replica for (replica,) in _replicas(rows)), None)


def save_alert(transaction: Transaction, change: Change, position: Position, now: float) -> None:
    """Store the new state of an alert."""
    replica = change.alert
    transaction.run(
        "INSERT OR REPLACE INTO alert VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        replica.id,
        replica.state,
        replica.state.alive,
        position.run,
        position.n,
        None if replica.notify_in is None else now + replica.notify_in,
        now + replica.until_in,
        now,
        write_json(replica),
        write_json(transition_event(change)),
    )


def alive_alerts(transaction: Transaction) -> Sequence[AliveAlert]:
    """Return the alive alerts, ordered by id; move unreadable ones to quarantine."""
    rows = transaction.rows("SELECT body, notify_at, until_at, id FROM alert WHERE alive = 1 ORDER BY id")
    found = [AliveAlert(replica, notify_at, until) for replica, notify_at, until, _ in _replicas(rows)]
    if len(found) < len(rows):
        _quarantine(transaction, {row[3] for row in rows} - {each.replica.id for each in found})
    return found


def _quarantine(transaction: Transaction, unreadable: Iterable[str]) -> None:
    """Move unreadable alerts to quarantine; the integration's next transition stores them again."""
    for name in unreadable:
        for row in transaction.rows("SELECT * FROM alert WHERE id = ?", name):
            Store.quarantine(transaction, "alert", row)
        transaction.run("DELETE FROM alert WHERE id = ?", name)


def newest_events(transaction: Transaction, destination: str) -> Iterable[Event]:
    """Yield the event of the newest transition of each alive alert, addressed to ``destination`` alone."""
    for (body,) in transaction.rows("SELECT event FROM alert WHERE alive = 1 ORDER BY run, n"):
        try:
            event = orjson.loads(body)
            event |= {
                "time": datetime.fromisoformat(event["time"]),
                "data": parse(AlertEvent, event["data"]),
                "only": destination,
            }
            yield Event(**event)
        except _UNREADABLE:
            _LOGGER.exception(
                "%s: Skipped the unreadable event of an alive alert; a new destination does not receive it",
                ROW_UNREADABLE,
            )


def summaries(transaction: Transaction) -> tuple[AlertSummary, ...]:
    """Return summaries of the alive and then the recently closed alerts, newest first, for a restored integration.

    Summaries that do not fit into a ``GatewayHello`` are omitted; an integration that still has those alerts does not
    need them.
    """
    rows = transaction.rows("SELECT body, run, n FROM alert WHERE alive = 1 ORDER BY run DESC, n DESC")
    rows += transaction.rows(
        "SELECT body, run, n FROM alert WHERE alive = 0 ORDER BY changed_at DESC LIMIT ?", _MOST_CLOSED_SUMMARIES
    )
    found = [_summary(replica, Position(run=run, n=n)) for replica, run, n in _replicas(rows)]
    sizes = accumulate(len(write_json(summary)) + 1 for summary in found)
    return tuple(summary for summary, size in zip(found, sizes, strict=True) if size <= _LONGEST_SUMMARIES)


def _replicas(rows: Iterable[Row]) -> Iterator[tuple[Any, ...]]:
    """Yield the rows with the body replaced by the parsed replica; skip rows that cannot be parsed."""
    for body, *rest in rows:
        try:
            replica = parse(Replica, orjson.loads(body))
        except _UNREADABLE:
            _LOGGER.exception("%s: Skipped an unreadable alert", ROW_UNREADABLE)
        else:
            yield replica, *rest


def _summary(replica: Replica, position: Position) -> AlertSummary:
    is_alive = replica.state.alive
    return AlertSummary(
        alert=replica.id,
        revision=replica.revision,
        answers_from=replica.answers_from,
        state=replica.state,
        position=position,
        group=replica.group,
        severity=replica.severity,
        # A merge needs no text of a closed alert; without it more summaries fit into the frame.
        message=replica.message if is_alive else "",
        entities=replica.entities if is_alive else (),
    )


def delete_old_closed(transaction: Transaction, now: float) -> None:
    """Delete alerts closed more than ``CLOSED_ALERTS_KEPT`` seconds ago, and their notification requests."""
    old = now - CLOSED_ALERTS_KEPT
    # First, while the alerts that the subquery selects still exist.
    transaction.run(
        "DELETE FROM notification_request WHERE alert IN (SELECT id FROM alert WHERE alive = 0 AND changed_at < ?)",
        old,
    )
    transaction.run("DELETE FROM alert WHERE alive = 0 AND changed_at < ?", old)


def requests_of(transaction: Transaction, alert: Ulid) -> Mapping[NotificationKey, TrackedRequest]:
    """Return the notification requests of one alert."""
    rows = transaction.rows(_SELECT_REQUESTS + " WHERE alert = ?", alert)
    return {request.key: request for request in map(_request, rows)}


def requests_of_event(transaction: Transaction, event: Ulid) -> Sequence[TrackedRequest]:
    """Return the notification request with this event id, or nothing if it was deleted."""
    return [_request(row) for row in transaction.rows(_SELECT_REQUESTS + " WHERE event = ?", event)]


def queued_for(transaction: Transaction, recipient: str) -> Sequence[TrackedRequest]:
    """Return the requests queued for ``recipient``."""
    where = " WHERE state = 'queued' AND recipient = ?"
    return [_request(row) for row in transaction.rows(_SELECT_REQUESTS + where, recipient)]


def outcomes(transaction: Transaction) -> Sequence[TrackedRequest]:
    """Return the requests of alive alerts that have a delivery result, in order of its arrival."""
    of_alive = " WHERE state IN ('delivered', 'failed') AND alert IN (SELECT id FROM alert WHERE alive = 1)"
    return [_request(row) for row in transaction.rows(_SELECT_REQUESTS + of_alive + " ORDER BY settled_at")]


def _request(row: Row) -> TrackedRequest:
    *key, due, due_away, state, settled_at = row
    return TrackedRequest(
        key=NotificationKey(**dict(zip(_KEY, key, strict=True))),
        due=due,
        due_away=due_away,
        state=RequestState(state),
        settled_at=settled_at,
    )


def save_request(transaction: Transaction, request: TrackedRequest) -> None:
    """Insert or replace a notification request."""
    transaction.run(
        "INSERT OR REPLACE INTO notification_request VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        *astuple(request.key),
        request.due,
        request.due_away,
        request.state,
        request_event_id(request.key),
        request.settled_at,
    )


def delete_request(transaction: Transaction, key: NotificationKey) -> None:
    """Delete a notification request."""
    transaction.run(
        "DELETE FROM notification_request "
        "WHERE alert = ? AND revision = ? AND level = ? AND round = ? AND recipient = ?",
        *astuple(key),
    )


def delete_older_revisions(transaction: Transaction, alert: Ulid, revision: int) -> None:
    """Delete requests older than the previous revision, whose outcomes may still have to be reported."""
    transaction.run("DELETE FROM notification_request WHERE alert = ? AND revision < ?", alert, revision - 1)
