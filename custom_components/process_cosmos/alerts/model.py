"""Immutable state of alerts, folded from their records."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from custom_components.process_cosmos.contract.alerts import AlertState, Outcome, Severity
from custom_components.process_cosmos.contract.identifiers import Ulid
from custom_components.process_cosmos.texts import shortened

from .records import (
    Acknowledged,
    AcknowledgementExpired,
    AlertRecord,
    Answer,
    Answered,
    Content,
    Ended,
    EventRecord,
    Merged,
    Opened,
    OutcomeReported,
    PlannedRequests,
    Reconciled,
    Record,
    Recurred,
    Refused,
    Rescheduled,
    Resolved,
    Restored,
    Running,
    Unanswered,
    Updated,
    proposal_of,
)

NOTIFY_AT_MOST_EVERY = timedelta(minutes=1)
MAX_ENTITIES = 500
"""Most entities in one call, and in one message to the gateway."""
MAX_MESSAGE = 4096
"""Most characters in a message."""
DONE = Answer(name="Done")
"""Answer of an alert that offers none, so that people can always close it."""

_SEVERITIES = tuple(Severity)


@dataclass(frozen=True, slots=True, kw_only=True)
class Alert:
    """State of one alert.

    ``revision``: increases with new content, an acknowledgement and a merge. ``notify_at``: when the notifications of
    this revision begin. ``cycle_started_at``: start of the escalation levels; ``cycle_revision``: the revision that set
    it. ``answers_from``: the revision of the newest content by a caller who may answer; answers to older revisions are
    refused as too late. ``until``: the give-up time. ``requests``: the last recorded list of notification requests.
    """

    id: Ulid
    group: str
    content: Content
    opened_at: datetime
    count: int
    state: AlertState
    revision: int
    answers_from: int
    notify_at: datetime
    cycle_started_at: datetime
    cycle_revision: int
    until: datetime
    requests: PlannedRequests = ()
    acknowledged_for: float | None = None
    by: str | None = None
    answer: str | None = None
    note: str | None = None
    closed_at: datetime | None = None
    running: bool = False
    outcome: Outcome | None = None
    reason: str = ""
    outcome_reported: bool = False

    @property
    def alive(self) -> bool:
        """Whether the alert is open or acknowledged."""
        return self.state.alive

    @property
    def answers(self) -> tuple[Answer, ...]:
        """The answers on offer; never empty."""
        return self.content.answers or (DONE,)

    def find_answer(self, name: str | None) -> Answer | None:
        """Return the offered answer called ``name``, if any."""
        return next((answer for answer in self.answers if answer.name == name), None)

    def requires_notification(self, content: Content) -> bool:
        """Return whether a repeated call with ``content`` notifies people, rather than being counted only.

        A different message, a new entity and a higher severity do. So does the first trusted call, because a caller
        without rights may have opened the same alert and acknowledged it. An entity mentioned only by such callers is
        new when a trusted call names it.
        """
        known = self.content.entities if content.trusted else self.content.about
        return (
            content.message != self.content.message
            or not set(content.entities) <= set(known)
            or not set(content.mentioned) <= set(self.content.mentioned)
            or _SEVERITIES.index(content.severity) > _SEVERITIES.index(self.content.severity)
            or (content.trusted and not self.content.trusted)
        )

    def content_with_addition(self, added: Content) -> Content:
        """Return this content with the additions of a caller who may not answer: message, severity, mentioned entities.

        The existing message stays in front, so that such a caller cannot replace a warning.
        """
        own = self.content.own_message or self.content.message
        return replace(
            self.content,
            message=own if added.message == own else shortened(f"{own}\n{added.message}", MAX_MESSAGE),
            own_message=own,
            severity=added.severity,
            mentioned=_without(self.content.entities, (*self.content.mentioned, *added.entities)),
        )

    def next_notification_at(self, now: datetime) -> datetime:
        """Return when a revision created now is notified: at most one per minute; a postponed one keeps its time."""
        if self.state is AlertState.ACKNOWLEDGED:
            return now
        # If a postponed revision were postponed again, content that changes every 50 seconds would silence everybody.
        return self.notify_at if self.notify_at > now else max(now, self.notify_at + NOTIFY_AT_MOST_EVERY)


@dataclass(slots=True)
class State:
    """All alerts of a record log, and its settled proposals by id (refusal code, or None if accepted)."""

    alerts: dict[Ulid, Alert] = field(default_factory=dict)
    proposals: dict[str, str | None] = field(default_factory=dict)
    newest: dict[str, Ulid] = field(default_factory=dict)
    """Newest alert of each group."""
    alive: dict[str, Ulid] = field(default_factory=dict)
    """Open or acknowledged alert of each group that has one."""

    def fold(self, record: Record) -> tuple[Alert, ...]:
        """Apply ``record`` and return the alerts it changed, as they are after it."""
        changed = alerts_after(record, self.alerts)
        for alert in changed:
            self._store(alert)
        proposal = proposal_of(record)
        if proposal is not None:
            self.proposals[proposal] = record.code if isinstance(record, Refused) else None
        return changed

    def alive_of(self, group: str) -> Alert | None:
        """Return the open or acknowledged alert of ``group``, if any."""
        return self.alerts.get(self.alive.get(group, Ulid("")))

    def forget(self, alert_id: Ulid) -> None:
        """Delete a closed alert."""
        deleted = self.alerts.pop(alert_id)
        if self.newest.get(deleted.group) == alert_id:
            del self.newest[deleted.group]

    def _store(self, alert: Alert) -> None:
        # Newest by record order: ids may come from another clock or from the gateway and do not prove an age.
        if alert.id not in self.alerts and (alert.alive or alert.group not in self.newest):
            self.newest[alert.group] = alert.id
        self.alerts[alert.id] = alert
        if alert.alive:
            self.alive[alert.group] = alert.id
        elif self.alive.get(alert.group) == alert.id:
            del self.alive[alert.group]


def alerts_after(record: Record, known: Mapping[Ulid, Alert]) -> tuple[Alert, ...]:
    """Return the alerts that ``record`` changes, as they are after it; a record of an unknown alert changes nothing."""
    if isinstance(record, Opened):
        return (_opened(record),)
    if isinstance(record, Merged):
        restored = [_restored(item, record.at) for item in record.restored]
        reconciled = [_reconciled(known[one.alert], one, record.at) for one in record.reconciled if one.alert in known]
        return (*restored, *reconciled)
    alert = known.get(record.alert) if isinstance(record, AlertRecord | EventRecord) else None
    changed = _changed(alert, record) if alert else None
    return (changed,) if changed else ()


def _changed(alert: Alert, record: Record) -> Alert | None:
    changed: Alert | None
    match record:
        case Updated():
            changed = _updated(alert, record)
        case Recurred():
            changed = replace(alert, count=alert.count + record.times)
        case Acknowledged():
            changed = _acknowledged(alert, record)
        case AcknowledgementExpired():
            changed = replace(alert, state=AlertState.OPEN, acknowledged_for=None)
        case Rescheduled():
            changed = replace(alert, requests=record.requests)
        case Running():
            changed = replace(alert, running=True)
        case Ended():
            changed = replace(alert, running=False, outcome=record.outcome, reason=record.reason)
        case OutcomeReported():
            changed = replace(alert, outcome_reported=True)
        case _:
            changed = _closed(alert, record)
    return changed


def _closed(alert: Alert, record: Record) -> Alert | None:
    match record:
        case Answered(at=at):
            state = AlertState.ANSWERED
            closed = replace(alert, by=record.by, answer=record.answer, note=record.note)
        case Resolved(at=at):
            state = AlertState.RESOLVED
            closed = replace(alert, by=record.by, note=record.note)
        case Unanswered(at=at):
            state = AlertState.UNANSWERED
            closed = replace(alert, by=None, answer=alert.content.if_unanswered)
        case _:
            return None
    return replace(closed, state=state, closed_at=at, requests=(), acknowledged_for=None)


def _opened(record: Opened) -> Alert:
    return Alert(
        id=record.alert,
        group=record.group,
        content=record.content,
        opened_at=record.at,
        count=1,
        state=AlertState.OPEN,
        revision=1,
        answers_from=1,
        notify_at=record.at,
        cycle_started_at=record.at,
        cycle_revision=1,
        until=record.at + timedelta(seconds=record.content.give_up_after),
        requests=record.requests,
    )


def _updated(alert: Alert, record: Updated) -> Alert:
    """Combine the contents: newest message, highest severity, all entities, and the newest answers on offer."""
    old, new = alert.content, record.content
    # The first trusted call replaces the answers of callers without rights even if it offers none itself.
    answers = new if new.answers or (new.trusted and not old.trusted) else old
    entities = _required_entities(old, new)
    content = replace(
        new,
        severity=max(old.severity, new.severity, key=_SEVERITIES.index),
        entities=entities,
        mentioned=_without(entities, (*old.about, *new.about)),
        trusted=old.trusted or new.trusted,
        answers=answers.answers,
        if_unanswered=answers.if_unanswered,
        user=answers.user,
    )
    revision = alert.revision + 1
    # Levels start over only after an acknowledgement: frequent updates must not keep level 2 from starting.
    was_acknowledged = alert.state is AlertState.ACKNOWLEDGED
    # A caller who may not answer must neither outdate the buttons on phones nor postpone the give-up (``adds_only``).
    return replace(
        alert,
        content=content,
        count=alert.count + 1,
        state=AlertState.OPEN,
        revision=revision,
        answers_from=alert.answers_from if record.adds_only else revision,
        notify_at=record.notify_at,
        cycle_started_at=record.notify_at if was_acknowledged else alert.cycle_started_at,
        cycle_revision=revision if was_acknowledged else alert.cycle_revision,
        until=alert.until if record.adds_only else record.at + timedelta(seconds=content.give_up_after),
        acknowledged_for=None,
        by=None,
        requests=record.requests,
    )


def _required_entities(old: Content, new: Content) -> tuple[str, ...]:
    """Return the entities a person must be able to control to answer: those of trusted calls, if there are any.

    The list is never shortened: people without the right to control an omitted entity could act on it.
    """
    if old.trusted != new.trusted:
        return (old if old.trusted else new).entities
    return tuple(dict.fromkeys((*old.entities, *new.entities)))


def _without(known: Iterable[str], entities: Iterable[str]) -> tuple[str, ...]:
    """Return the ``entities`` that are not in ``known``, each once, at most ``MAX_ENTITIES``."""
    known = set(known)
    return tuple(dict.fromkeys(entity for entity in entities if entity not in known))[:MAX_ENTITIES]


def _acknowledged(alert: Alert, record: Acknowledged) -> Alert:
    # The next revision, deferred to the acknowledgement's end: so the gateway continues without a further message.
    return replace(
        _cycle_started(alert, alert.revision + 1, record.notify_at),
        state=AlertState.ACKNOWLEDGED,
        by=record.by,
        acknowledged_for=(record.notify_at - record.at).total_seconds(),
        requests=record.requests,
    )


def _restored(item: Restored, at: datetime) -> Alert:
    content = Content(
        message=item.message,
        severity=item.severity,
        entities=item.entities,
        give_up_after=timedelta(days=1).total_seconds(),
    )
    opened = _opened(
        Opened(alert=item.alert, event=item.event, at=at, group=item.group, content=content, requests=item.requests)
    )
    alive = replace(opened, revision=item.revision, answers_from=item.revision, cycle_revision=item.revision)
    return replace(alive, state=AlertState.RESOLVED, closed_at=at, requests=()) if item.resolved else alive


def _reconciled(alert: Alert, item: Reconciled, at: datetime) -> Alert:
    changed = replace(
        alert, state=item.state, answers_from=item.answers_from, requests=item.requests, acknowledged_for=None
    )
    if item.state.alive:
        return _cycle_started(changed, item.revision, at)
    return replace(changed, revision=item.revision, closed_at=alert.closed_at or at)


def _cycle_started(alert: Alert, revision: int, at: datetime) -> Alert:
    """Return ``alert`` with ``revision``, whose escalation levels start at ``at``."""
    return replace(alert, revision=revision, notify_at=at, cycle_started_at=at, cycle_revision=revision)
