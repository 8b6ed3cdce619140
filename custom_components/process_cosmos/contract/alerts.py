"""Messages about alerts: transitions and results to the gateway, notification outcomes and proposals from it.

Times are sent as ages and delays in seconds, never as wall time, because the two clocks may differ by hours.
"""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import ClassVar

from .codec import Json
from .identifiers import NotificationKey, Position, Ulid


class AlertState(StrEnum):
    """State of an alert: alive while open or acknowledged, closed in every other state. Unknown: open."""

    OPEN = "open"
    ACKNOWLEDGED = "acknowledged"
    ANSWERED = "answered"
    UNANSWERED = "unanswered"
    RESOLVED = "resolved"
    # Somebody may still have to be notified.
    UNKNOWN = OPEN

    @property
    def alive(self) -> bool:
        """Whether people may still have to be notified."""
        return self in (AlertState.OPEN, AlertState.ACKNOWLEDGED)


class Severity(StrEnum):
    """Severity of an alert, lowest first. Unknown: critical."""

    INFO = "info"
    WARNING = "warning"
    CRITICAL = "critical"
    # Too loud rather than unnoticed.
    UNKNOWN = CRITICAL


class TransitionKind(StrEnum):
    """Kind of a change to an alert; destinations receive it as a ``process_cosmos.alert.<kind>.v1`` event.

    Unknown: updated, as every change carries the alert's whole state.
    """

    OPENED = "opened"
    UPDATED = "updated"
    ACKNOWLEDGED = "acknowledged"
    ACKNOWLEDGEMENT_EXPIRED = "acknowledgement_expired"
    RESCHEDULED = "rescheduled"
    UNANSWERED = "unanswered"
    RESOLVED = "resolved"
    ANSWERED = "answered"
    OUTCOME = "outcome"
    RESTORED = "restored"
    RECONCILED = "reconciled"
    UNKNOWN = UPDATED


class Outcome(StrEnum):
    """Outcome of an answer's actions; ``unknown``: a crash happened between their effect and its record."""

    DONE = "done"
    FAILED = "failed"
    UNKNOWN = "unknown"
    SUPERSEDED = "superseded"


@dataclass(frozen=True, slots=True, kw_only=True)
class Attached:
    """State of an entity when the alert action was called, and the time it entered that state."""

    entity: str
    state: str
    since: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class AlertSummary:
    """Summary of an alive or recently closed alert in the gateway's replica, for a restored integration to merge.

    ``message``, ``entities``, ``severity``, ``group``: used for an alert that the integration no longer has.
    """

    alert: Ulid
    revision: int
    answers_from: int
    state: AlertState
    position: Position
    group: str
    severity: Severity
    message: str
    entities: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Replica:
    """Copy of an alert for the gateway and the destinations, with the names of its answers but not their actions.

    ``notify_in``: seconds until a rescheduled notification or the end of an acknowledgement, None if neither is
    pending. ``until_in``: seconds until the alert closes as unanswered. ``answers_from``: the revision of the newest
    content. ``data``: free JSON from the automation; ``attached``: entity states it requested. Both are for
    destinations.
    """

    id: Ulid
    group: str
    state: AlertState
    revision: int
    answers_from: int
    severity: Severity
    message: str
    entities: tuple[str, ...]
    answers: tuple[str, ...]
    count: int
    until_in: float
    notify_in: float | None = None
    acknowledged_for: float | None = None
    by: str | None = None
    answer: str | None = None
    outcome: Outcome | None = None
    data: Json = None
    attached: tuple[Attached, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class NotificationRequest:
    """Request that the gateway notify a destination in ``due_in`` seconds.

    ``due_if_home_assistant_away_in`` applies as well while Home Assistant is away: the earlier one counts.
    """

    key: NotificationKey
    # The integration computes both, so that the gateway continues without knowing the escalation policy.
    due_in: float
    due_if_home_assistant_away_in: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """Change to one alert within a transition.

    ``event``: id of the CloudEvent, assigned in the integration's record; ``at``: the event's time by the integration's
    wall clock, which is content and not used for scheduling. ``requests``: the complete list, which replaces the
    previous one; None leaves the list unchanged.
    """

    kind: TransitionKind
    alert: Replica
    # Created with the record, so that a transition that is sent again adds no second event.
    event: Ulid
    at: datetime
    # None is not an empty list: that one withdraws every request, as closing an alert does.
    requests: tuple[NotificationRequest, ...] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Transition:
    """Home Assistant → gateway: one record of the integration's record log.

    Applied once, in order, and confirmed by ``Committed``. ``proposal``: the proposal this record settles; ``code``:
    why the proposal was refused (None: it was accepted). A refused proposal for an unknown alert has no changes.
    """

    type: ClassVar[str] = "transition"
    position: Position
    # Several, because a `merged` record changes several alerts at one position, which is applied as a whole.
    changes: tuple[Change, ...]
    proposal: str | None = None
    code: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CaughtUp:
    """Home Assistant → gateway: the record log is sent completely; the gateway may notify, deliver and poll."""

    type: ClassVar[str] = "caught_up"


@dataclass(frozen=True, slots=True, kw_only=True)
class Notified:
    """Gateway → Home Assistant: outcome of a notification request, ``age`` seconds old.

    Sent again in each session while the alert is alive.
    """

    type: ClassVar[str] = "notified"
    key: NotificationKey
    reached: bool
    age: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Propose:
    """Gateway → Home Assistant: an answer or acknowledgement from a destination, repeated until settled.

    Sent again in each session until a transition with its id, or a ``Result``, settles it. ``answer`` is None for an
    acknowledgement, which pauses notifications for ``acknowledge_for`` seconds. ``age``: seconds since it was given.
    ``by``: the person's name, as the destination reports it. ``revision``: the revision it refers to; None: the current
    one.
    """

    type: ClassVar[str] = "propose"
    id: str
    alert: Ulid
    revision: int | None
    answer: str | None
    age: float
    by: str
    acknowledge_for: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class AlertEvent:
    """``data`` of a ``process_cosmos.alert.<kind>.v1`` or ``…notification_requested.v1`` CloudEvent.

    ``level`` and ``round``: only in ``notification_requested`` events, which ask the destination to notify its people.
    ``data`` and ``attached``: as supplied by the automation.
    """

    alert: Ulid
    revision: int
    state: AlertState
    severity: Severity
    message: str
    entities: tuple[str, ...]
    answers: tuple[str, ...]
    count: int
    by: str | None = None
    answer: str | None = None
    outcome: Outcome | None = None
    level: int | None = None
    round: int | None = None
    data: Json = None
    attached: tuple[Attached, ...] = ()
