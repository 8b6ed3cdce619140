"""The memory's records as messages to the gateway: times become ages."""

from collections.abc import Mapping
from datetime import datetime

import orjson

from custom_components.process_cosmos.alerts.record_log import Entry
from custom_components.process_cosmos.contract.alerts import Ask, Change, Replica, Transition, TransitionKind
from custom_components.process_cosmos.contract.bounds import bounded
from custom_components.process_cosmos.contract.identifiers import Ulid

from .model import MAX_ENTITIES, Escalation
from .records import (
    Acked,
    Answered,
    Asks,
    Ended,
    Eventful,
    Merged,
    Moved,
    Opened,
    Reconciled,
    Record,
    Refused,
    Resolved,
    Restored,
    Rung,
    Unanswered,
    Woke,
    proposal_of,
)

KINDS: Mapping[type, TransitionKind] = {
    Opened: TransitionKind.OPENED,
    Rung: TransitionKind.RUNG,
    Acked: TransitionKind.ACKED,
    Woke: TransitionKind.WOKE,
    Moved: TransitionKind.MOVED,
    Unanswered: TransitionKind.UNANSWERED,
    Resolved: TransitionKind.RESOLVED,
    Answered: TransitionKind.ANSWERED,
    Ended: TransitionKind.OUTCOME,
}


def transition(entry: Entry[Record], after: tuple[Escalation, ...], now: datetime) -> Transition | None:
    """Return the message for ``entry``, after which the escalations are ``after``; None: it is not for the gateway."""
    record = entry.record
    if isinstance(record, Refused):
        return Transition(position=entry.position, changes=(), proposal=record.proposal, code=record.code)
    changes = _changes(record, after, now)
    if not changes:
        return None
    return Transition(position=entry.position, changes=changes, proposal=proposal_of(record))


def kinds_of(record: Record) -> Mapping[Ulid, TransitionKind]:
    """Return what ``record`` means for which escalations."""
    if isinstance(record, Merged):
        return {
            **{one.escalation: _restored_kind(one) for one in record.restored},
            **{one.escalation: TransitionKind.RECONCILED for one in record.reconciled},
        }
    return {record.escalation: KINDS[type(record)]} if isinstance(record, Eventful) else {}


def replica(escalation: Escalation, now: datetime) -> Replica:
    """Return what the gateway and the destinations may know of ``escalation``."""
    content = escalation.content
    ring_in = (escalation.ring_at - now).total_seconds()
    return Replica(
        id=escalation.id,
        group=escalation.group,
        state=escalation.state,
        ring=escalation.ring,
        answers_from=escalation.answers_from,
        severity=content.severity,
        message=content.message,
        entities=content.about[:MAX_ENTITIES],
        answers=tuple(answer.name for answer in escalation.answers),
        count=escalation.count,
        until_in=(escalation.until - now).total_seconds(),
        ring_in=ring_in if ring_in > 0 else None,
        acknowledged_for=escalation.acknowledged_for,
        by=escalation.by,
        answer=escalation.answer,
        outcome=escalation.outcome,
        data=bounded(orjson.loads(content.data)) if content.data else None,  # an older version knew no limit
        attached=content.attached,
    )


def _changes(record: Record, after: tuple[Escalation, ...], now: datetime) -> tuple[Change, ...]:
    by_id = {escalation.id: escalation for escalation in after}
    parts: Mapping[Ulid, Eventful | Restored | Reconciled]
    if isinstance(record, Merged):
        parts = {
            **{one.escalation: one for one in record.restored},
            **{one.escalation: one for one in record.reconciled},
        }
    elif isinstance(record, Eventful):
        parts = {record.escalation: record}
    else:
        return ()
    return tuple(
        Change(
            kind=kind,
            escalation=replica(by_id[escalation], now),
            event=parts[escalation].event,
            at=record.at,
            asks=_asks_of(parts[escalation], now),
        )
        for escalation, kind in kinds_of(record).items()
        if escalation in by_id
    )


def _asks_of(part: Eventful | Restored | Reconciled, now: datetime) -> tuple[Ask, ...] | None:
    """Return the asks that are left; None: they stay as they were."""
    match part:
        case Woke() | Ended():
            return None
        case Unanswered() | Resolved() | Answered():
            return ()
        case _:
            return _asks(part.asks, now)


def _asks(asks: Asks, now: datetime) -> tuple[Ask, ...]:
    return tuple(
        Ask(
            key=ask.key,
            due_in=(ask.due - now).total_seconds(),
            due_if_home_assistant_away_in=(ask.due_if_home_assistant_away - now).total_seconds(),
        )
        for ask in asks
    )


def _restored_kind(item: Restored) -> TransitionKind:
    return TransitionKind.RESOLVED if item.resolved else TransitionKind.RESTORED
