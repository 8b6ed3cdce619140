"""Conversion of records into messages to the gateway, with times as ages."""

from collections.abc import Mapping
from datetime import datetime

import orjson

from custom_components.process_cosmos.alerts.record_log import Entry
from custom_components.process_cosmos.contract.alerts import (
    Change,
    NotificationRequest,
    Replica,
    Transition,
    TransitionKind,
)
from custom_components.process_cosmos.contract.identifiers import Ulid

from .model import MAX_ENTITIES, Alert
from .records import (
    Acknowledged,
    AcknowledgementExpired,
    Answered,
    Ended,
    Eventful,
    Merged,
    Opened,
    PlannedRequests,
    Reconciled,
    Record,
    Refused,
    Rescheduled,
    Resolved,
    Restored,
    Unanswered,
    Updated,
    proposal_of,
)

KINDS: Mapping[type, TransitionKind] = {
    Opened: TransitionKind.OPENED,
    Updated: TransitionKind.UPDATED,
    Acknowledged: TransitionKind.ACKNOWLEDGED,
    AcknowledgementExpired: TransitionKind.ACKNOWLEDGEMENT_EXPIRED,
    Rescheduled: TransitionKind.RESCHEDULED,
    Unanswered: TransitionKind.UNANSWERED,
    Resolved: TransitionKind.RESOLVED,
    Answered: TransitionKind.ANSWERED,
    Ended: TransitionKind.OUTCOME,
}


def transition(entry: Entry[Record], after: tuple[Alert, ...], now: datetime) -> Transition | None:
    """Return the message for ``entry``; None if it is not for the gateway. ``after``: the alerts it changed."""
    record = entry.record
    if isinstance(record, Refused):
        return Transition(position=entry.position, changes=(), proposal=record.proposal, code=record.code)
    changes = _changes(record, after, now)
    if not changes:
        return None
    return Transition(position=entry.position, changes=changes, proposal=proposal_of(record))


def kinds_of(record: Record) -> Mapping[Ulid, TransitionKind]:
    """Return the kind of transition that ``record`` causes, by alert."""
    if isinstance(record, Merged):
        return {
            **{one.alert: _restored_kind(one) for one in record.restored},
            **{one.alert: TransitionKind.RECONCILED for one in record.reconciled},
        }
    return {record.alert: KINDS[type(record)]} if isinstance(record, Eventful) else {}


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
    by_id = {alert.id: alert for alert in after}
    parts: Mapping[Ulid, Eventful | Restored | Reconciled]
    if isinstance(record, Merged):
        parts = {
            **{one.alert: one for one in record.restored},
            **{one.alert: one for one in record.reconciled},
        }
    elif isinstance(record, Eventful):
        parts = {record.alert: record}
    else:
        return ()
    return tuple(
        Change(
            kind=kind,
            alert=replica(by_id[alert], now),
            event=parts[alert].event,
            at=record.at,
            requests=_requests_of(parts[alert], now),
        )
        for alert, kind in kinds_of(record).items()
        if alert in by_id
    )


def _requests_of(part: Eventful | Restored | Reconciled, now: datetime) -> tuple[NotificationRequest, ...] | None:
    """Return the remaining notification requests; None: they are unchanged."""
    match part:
        # The acknowledgement's requests are already due at its end: the gateway continues without this message.
        case AcknowledgementExpired() | Ended():
            return None
        case Unanswered() | Resolved() | Answered():
            return ()
        case _:
            return _requests(part.requests, now)


def _requests(requests: PlannedRequests, now: datetime) -> tuple[NotificationRequest, ...]:
    return tuple(
        NotificationRequest(
            key=request.key,
            due_in=(request.due - now).total_seconds(),
            due_if_home_assistant_away_in=(request.due_if_home_assistant_away - now).total_seconds(),
        )
        for request in requests
    )


def _restored_kind(item: Restored) -> TransitionKind:
    return TransitionKind.RESOLVED if item.resolved else TransitionKind.RESTORED
