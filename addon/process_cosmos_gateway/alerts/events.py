"""The events destinations hear of escalations by."""

from datetime import datetime
from hashlib import blake2b

from process_cosmos_gateway.contract.alerts import Change, EscalationEvent, EscalationState, Replica, TransitionKind
from process_cosmos_gateway.contract.destinations import EventKind, Priority
from process_cosmos_gateway.contract.events import event_type
from process_cosmos_gateway.contract.identifiers import DESTINATION, TellKey, Ulid
from process_cosmos_gateway.outbox import Event

ASKED = event_type("escalation", "asked")

_TIME_LETTERS = 10
_HASH_LETTERS = 16
_ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"


def transition_event(change: Change) -> Event:
    """Return the event of one escalation's change, for all who want escalations."""
    return _event(change.event, event_type("escalation", change.kind), change.at, _data(change.escalation))


def asked_event(key: TellKey, escalation: Replica, now: datetime) -> Event:
    """Return the event that says: please tell your people."""
    data = _data(escalation, ring=key.ring, level=key.level, round_=key.round, state=EscalationState.OPEN)
    return _event(asked_id(key), ASKED, now, data, only=key.recipient.removeprefix(DESTINATION))


def asked_id(key: TellKey) -> Ulid:
    """Return the id of the ask's event: a ULID with the escalation's time and the key's hash, always the same."""
    number = int.from_bytes(blake2b(str(key).encode(), digest_size=10).digest())
    letters = (_ALPHABET[number >> 5 * place & 31] for place in reversed(range(_HASH_LETTERS)))
    return Ulid(key.escalation[:_TIME_LETTERS] + "".join(letters))


def standing_event(event: Ulid, escalation: Replica, now: datetime) -> Event:
    """Return the event that says how a living escalation stands in a store that came out of a backup."""
    return _event(event, event_type("escalation", TransitionKind.RECONCILED), now, _data(escalation))


def _event(event: Ulid, kind: str, time: datetime, data: EscalationEvent, only: str | None = None) -> Event:
    return Event(
        id=event,
        type=kind,
        kind=EventKind.ESCALATION,
        priority=Priority.ALARM,
        subject=data.escalation,
        key=data.escalation,
        time=time,
        data=data,
        only=only,
    )


def _data(
    escalation: Replica,
    *,
    ring: int | None = None,
    level: int | None = None,
    round_: int | None = None,
    state: EscalationState | None = None,
) -> EscalationEvent:
    return EscalationEvent(
        escalation=escalation.id,
        ring=escalation.ring if ring is None else ring,
        state=state or escalation.state,
        severity=escalation.severity,
        message=escalation.message,
        entities=escalation.entities,
        answers=escalation.answers,
        count=escalation.count,
        by=escalation.by,
        answer=escalation.answer,
        outcome=escalation.outcome,
        level=level,
        round=round_,
        data=escalation.data,
        attached=escalation.attached,
    )
