"""The replica of the integration's alerts and their asks, in the store."""

import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import accumulate
from typing import Any

import orjson

from process_cosmos_gateway.contract.alerts import AlertEvent, AlertState, AlertSummary, Change, Replica
from process_cosmos_gateway.contract.bounds import write_json
from process_cosmos_gateway.contract.codec import MAX_FRAME, parse
from process_cosmos_gateway.contract.errors import ContractError
from process_cosmos_gateway.contract.identifiers import NotificationKey, Position, Ulid
from process_cosmos_gateway.outbox import Event
from process_cosmos_gateway.store import Store, Transaction
from process_cosmos_gateway.store.errors import ROW_UNREADABLE
from process_cosmos_gateway.store.transaction import Row

from .events import request_event_id, transition_event
from .notification_requests import RequestState, TrackedRequest

KEPT_CLOSED = 30 * 24 * 3600.0
"""Seconds a closed alert is remembered."""

_LOGGER = logging.getLogger(__name__)
_UNREADABLE = (ContractError, KeyError, TypeError, ValueError)
"""What a row raises that another version, or a bad disk, has written."""

_MOST_CLOSED_SUMMARIES = 1_000
_LONGEST_SUMMARIES = MAX_FRAME * 3 // 4
"""Bytes: a greeting that is too long for a frame would keep Home Assistant out for good."""

_ASKS = "SELECT alert, revision, level, round, recipient, due, due_away, state, settled_at FROM notification_request"


@dataclass(frozen=True, slots=True)
class Alive:
    """A living alert; times are steady. ``notify_at``: the end of a put-off ring or an acknowledgement."""

    replica: Replica
    notify_at: float | None
    until: float

    @property
    def silent_until(self) -> float:
        """The end of an acknowledgement, if there is one."""
        acknowledged = self.replica.state is AlertState.ACKNOWLEDGED
        return self.notify_at if acknowledged and self.notify_at is not None else float("-inf")


def cursor(transaction: Transaction) -> Position | None:
    """Return the position of the newest transition applied."""
    memory: dict[str, Any] = dict(transaction.rows("SELECT key, value FROM alert_state WHERE key IN ('run', 'n')"))
    return Position(run=Ulid(memory["run"]), n=memory["n"]) if memory else None


def remember(transaction: Transaction, **values: str | float) -> None:
    """Keep values of ``alert_state``."""
    transaction.run_many("INSERT OR REPLACE INTO alert_state VALUES (?, ?)", values.items())


def closed(transaction: Transaction, alert: Ulid) -> Replica | None:
    """Return ``alert`` if it is known and closed."""
    rows = transaction.rows("SELECT body FROM alert WHERE id = ? AND alive = 0", alert)
    return next((replica for (replica,) in _replicas(rows)), None)


def save(transaction: Transaction, change: Change, position: Position, now: float) -> None:
    """Write what the integration says of an alert."""
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


def alive(transaction: Transaction) -> Sequence[Alive]:
    """Return the living alerts."""
    rows = transaction.rows("SELECT body, notify_at, until_at, id FROM alert WHERE alive = 1 ORDER BY id")
    living = [Alive(replica, notify_at, until) for replica, notify_at, until, _ in _replicas(rows)]
    if len(living) < len(rows):
        _set_aside(transaction, {row[3] for row in rows} - {each.replica.id for each in living})
    return living


def _set_aside(transaction: Transaction, unreadable: Iterable[str]) -> None:
    """Move alerts that cannot be read to the quarantine; the integration's next word makes them anew."""
    for name in unreadable:
        for row in transaction.rows("SELECT * FROM alert WHERE id = ?", name):
            Store.quarantine(transaction, "alert", row)
        transaction.run("DELETE FROM alert WHERE id = ?", name)


def newest_events(transaction: Transaction, destination: str) -> Iterable[Event]:
    """Return, for ``destination`` alone, the newest transition of each living alert."""
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
            _LOGGER.exception("%s: an event of a living alert is left out", ROW_UNREADABLE)


def summaries(transaction: Transaction) -> tuple[AlertSummary, ...]:
    """Return what a restored integration mends itself from: the living, and those lately closed, newest first.

    What does not fit into a greeting is left out: an integration that knows it needs no word of it.
    """
    rows = transaction.rows("SELECT body, run, n FROM alert WHERE alive = 1 ORDER BY run DESC, n DESC")
    rows += transaction.rows(
        "SELECT body, run, n FROM alert WHERE alive = 0 ORDER BY changed_at DESC LIMIT ?", _MOST_CLOSED_SUMMARIES
    )
    found = [_summary(replica, Position(run=run, n=n)) for replica, run, n in _replicas(rows)]
    sizes = accumulate(len(write_json(summary)) + 1 for summary in found)
    return tuple(summary for summary, size in zip(found, sizes, strict=True) if size <= _LONGEST_SUMMARIES)


def _replicas(rows: Iterable[Row]) -> Iterator[tuple[Any, ...]]:
    """Yield rows with the replica in the place of its body; one that cannot be read costs none of the others."""
    for body, *rest in rows:
        try:
            replica = parse(Replica, orjson.loads(body))
        except _UNREADABLE:
            _LOGGER.exception("%s: an alert is left out", ROW_UNREADABLE)
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
        message=replica.message if is_alive else "",
        entities=replica.entities if is_alive else (),
    )


def forget_old(transaction: Transaction, now: float) -> None:
    """Delete what was closed ``KEPT_CLOSED`` seconds ago or earlier, with its asks."""
    old = now - KEPT_CLOSED
    transaction.run(
        "DELETE FROM notification_request WHERE alert IN (SELECT id FROM alert WHERE alive = 0 AND changed_at < ?)",
        old,
    )
    transaction.run("DELETE FROM alert WHERE alive = 0 AND changed_at < ?", old)


def requests_of(transaction: Transaction, alert: Ulid) -> Mapping[NotificationKey, TrackedRequest]:
    """Return the asks of one alert."""
    rows = transaction.rows(_ASKS + " WHERE alert = ?", alert)
    return {request.key: request for request in map(_request, rows)}


def requests_of_event(transaction: Transaction, event: Ulid) -> Sequence[TrackedRequest]:
    """Return the ask whose event this is, if it is still known."""
    return [_request(row) for row in transaction.rows(_ASKS + " WHERE event = ?", event)]


def queued_for(transaction: Transaction, recipient: str) -> Sequence[TrackedRequest]:
    """Return the asks on their way to ``recipient``."""
    return [_request(row) for row in transaction.rows(_ASKS + " WHERE state = 'queued' AND recipient = ?", recipient)]


def outcomes(transaction: Transaction) -> Sequence[TrackedRequest]:
    """Return the asks of living alerts that have an outcome, in the order it came."""
    of_living = " WHERE state IN ('delivered', 'failed') AND alert IN (SELECT id FROM alert WHERE alive = 1)"
    return [_request(row) for row in transaction.rows(_ASKS + of_living + " ORDER BY settled_at")]


def _request(row: Row) -> TrackedRequest:
    alert, revision, level, round_, recipient, due, due_away, state, settled_at = row
    return TrackedRequest(
        key=NotificationKey(alert=alert, revision=revision, level=level, round=round_, recipient=recipient),
        due=due,
        due_away=due_away,
        state=RequestState(state),
        settled_at=settled_at,
    )


def save_request(transaction: Transaction, request: TrackedRequest) -> None:
    """Write an ask."""
    transaction.run(
        "INSERT OR REPLACE INTO notification_request VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        *_key(request.key),
        request.due,
        request.due_away,
        request.state,
        request_event_id(request.key),
        request.settled_at,
    )


def delete_request(transaction: Transaction, key: NotificationKey) -> None:
    """Forget an ask that is gone."""
    transaction.run(
        "DELETE FROM notification_request WHERE alert = ? AND revision = ? AND level = ? AND round = ? AND recipient = ?",
        *_key(key),
    )


def delete_older_revisions(transaction: Transaction, alert: Ulid, revision: int) -> None:
    """Forget asks of rings long over; the last ring's outcomes may still have to go up."""
    transaction.run("DELETE FROM notification_request WHERE alert = ? AND revision < ?", alert, revision - 1)


def _key(key: NotificationKey) -> tuple[str, int, int, int, str]:
    return key.alert, key.revision, key.level, key.round, key.recipient
