"""Conversion of records into messages to the gateway, with times as ages."""

from datetime import datetime

import orjson

from custom_components.process_cosmos.alerts.record_log import Entry
from custom_components.process_cosmos.contract.alerts import Change, NotificationRequest, Replica, Transition

from .model import MAX_ENTITIES, Alert
from .records import (
    Acknowledged,
    AcknowledgementExpired,
    AlertEvent,
    Ended,
    EventRecord,
    Merged,
    Opened,
    PlannedRequests,
    Reconciled,
    Record,
    Refused,
    Rescheduled,
    Restored,
    Updated,
    alert_events,
    proposal_of,
)


def transition(entry: Entry[Record], after: tuple[Alert, ...], now: datetime) -> Transition | None:
    """Return the message for ``entry``; None if it is not for the gateway. ``after``: the alerts it changed."""
    record = entry.record
    if isinstance(record, Refused):
        return Transition(position=entry.position, changes=(), proposal=record.proposal, code=record.code)
    changes = _changes(record, after, now)
    if not changes:
        return None
    return Transition(position=entry.position, changes=changes, proposal=proposal_of(record))


def replica(alert: Alert, now: datetime) -> Replica:
    """Return the part of ``alert`` that is sent to the gateway and destinations: without actions of answers."""
    content = alert.content
    notify_in = (alert.notify_at - now).total_seconds()
    return Replica(
        id=alert.id,
        group=alert.group,
        state=alert.state,
        revision=alert.revision,
        answers_from=alert.answers_from,
        severity=content.severity,
        message=content.message,
        entities=content.about[:MAX_ENTITIES],
        answers=tuple(answer.name for answer in alert.answers),
        count=alert.count,
        until_in=(alert.until - now).total_seconds(),
        notify_in=notify_in if notify_in > 0 else None,
        acknowledged_for=alert.acknowledged_for,
        by=alert.by,
        answer=alert.answer,
        outcome=alert.outcome,
        data=orjson.loads(content.data) if content.data else None,
        attached=content.attached,
    )


def _changes(record: Record, after: tuple[Alert, ...], now: datetime) -> tuple[Change, ...]:
    if not isinstance(record, EventRecord | Merged):
        return ()
    by_id = {alert.id: alert for alert in after}
    return tuple(
        Change(
            kind=event.kind,
            alert=replica(by_id[event.alert], now),
            event=event.event,
            at=record.at,
            requests=_requests_of(event, now),
        )
        for event in alert_events(record)
        if event.alert in by_id
    )


def _requests_of(event: AlertEvent, now: datetime) -> tuple[NotificationRequest, ...] | None:
    """Return the remaining notification requests; None: they are unchanged."""
    match event:
        # The acknowledgement's requests are already due at its end: the gateway continues without this message.
        case AcknowledgementExpired() | Ended():
            return None
        case Opened() | Updated() | Acknowledged() | Rescheduled() | Restored() | Reconciled():
            return _requests(event.requests, now)
        case _:
            return ()


def _requests(requests: PlannedRequests, now: datetime) -> tuple[NotificationRequest, ...]:
    return tuple(
        NotificationRequest(
            key=request.key,
            due_in=(request.due - now).total_seconds(),
            due_if_home_assistant_away_in=(request.due_if_home_assistant_away - now).total_seconds(),
        )
        for request in requests
    )
