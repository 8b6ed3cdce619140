"""CloudEvents that report alerts to destinations."""

from dataclasses import replace
from datetime import datetime
from hashlib import blake2b

from process_cosmos_gateway.contract.alerts import AlertEvent, AlertState, Change, Replica, TransitionKind
from process_cosmos_gateway.contract.destinations import EventKind, Priority
from process_cosmos_gateway.contract.events import event_type
from process_cosmos_gateway.contract.identifiers import DESTINATION, NotificationKey, Ulid, encode_base_32
from process_cosmos_gateway.outbox import Event

NOTIFICATION_REQUESTED = event_type("alert", "notification_requested")


def transition_event(change: Change) -> Event:
    """Return the event that reports a change of an alert to all destinations subscribed to alerts."""
    return _event(change.event, event_type("alert", change.kind), change.at, _data(change.alert))


def request_event(key: NotificationKey, alert: Replica, now: datetime) -> Event:
    """Return the event that asks one destination to notify its people."""
    # The replica may still say acknowledged: these requests are due at the acknowledgement's end, without a message.
    data = replace(_data(alert), revision=key.revision, level=key.level, round=key.round, state=AlertState.OPEN)
    return _event(
        request_event_id(key), NOTIFICATION_REQUESTED, now, data, only=key.recipient.removeprefix(DESTINATION)
    )


def request_event_id(key: NotificationKey) -> Ulid:
    """Return the deterministic event id of a notification request: a ULID of the alert's time and the key's hash."""
    # Computed, so that a request queued again after a crash or a restored backup is the same event for destinations.
    number = int.from_bytes(blake2b(str(key).encode(), digest_size=10).digest())
    return Ulid(key.alert[:10] + encode_base_32(number, 16))


def reconciled_event(event: Ulid, alert: Replica, now: datetime) -> Event:
    """Return the event that reports the state of an alive alert after the store was restored from a backup."""
    return _event(event, event_type("alert", TransitionKind.RECONCILED), now, _data(alert))


def _event(event: Ulid, kind: str, time: datetime, data: AlertEvent, only: str | None = None) -> Event:
    return Event(
        id=event,
        type=kind,
        kind=EventKind.ALERT,
        priority=Priority.URGENT,
        subject=data.alert,
        key=data.alert,
        time=time,
        data=data,
        only=only,
        # States and requests do not supersede each other.
        slot=data.alert if only is None else f"{data.alert}/request",
    )


def _data(alert: Replica) -> AlertEvent:
    return AlertEvent(
        alert=alert.id,
        revision=alert.revision,
        state=alert.state,
        severity=alert.severity,
        message=alert.message,
        entities=alert.entities,
        answers=alert.answers,
        count=alert.count,
        by=alert.by,
        answer=alert.answer,
        outcome=alert.outcome,
        data=alert.data,
        attached=alert.attached,
    )
