"""Messages about alerts: transitions and results up to the gateway, outcomes and proposals down from it.

Times travel as ages and waits in seconds, never as wall time: the two sides' clocks may be hours apart.
"""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import ClassVar

from .codec import Json
from .identifiers import NotificationKey, Position, Ulid


class AlertState(StrEnum):
    """An alert is alive while open or acknowledged; the others are closed."""

    OPEN = "open"
    ACKNOWLEDGED = "acknowledged"
    ANSWERED = "answered"
    UNANSWERED = "unanswered"
    RESOLVED = "resolved"

    @property
    def alive(self) -> bool:
        """Whether somebody may still have to be told."""
        return self in (AlertState.OPEN, AlertState.ACKNOWLEDGED)


class Severity(StrEnum):
    """How bad it is, least first."""

    INFO = "info"
    WARNING = "warning"
    CRITICAL = "critical"


class TransitionKind(StrEnum):
    """What happened to an alert; destinations hear of it as ``process_cosmos.alert.<kind>.v1``."""

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


class Outcome(StrEnum):
    """How the actions of an answer ended; ``unknown``: a crash lies between the effect and its record."""

    DONE = "done"
    FAILED = "failed"
    UNKNOWN = "unknown"
    SUPERSEDED = "superseded"


@dataclass(frozen=True, slots=True, kw_only=True)
class Attached:
    """An entity's state when the alert was called, and since when it had it."""

    entity: str
    state: str
    since: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class AlertSummary:
    """What the gateway's replica says of one alive or lately closed alert; a restored integration mends from it.

    ``message``, ``entities``, ``severity``, ``group``: for an alert the integration no longer knows.
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
    """An alert as the gateway and the destinations may know it: names of answers, never their actions.

    ``notify_in``: seconds until a put-off ring or the end of an acknowledgement, None when nothing is put off.
    ``until_in``: seconds until the give-up. ``answers_from``: the ring of the newest content. ``data``: whatever the
    automation gave along, ``attached``: states it asked for; both for destinations.
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
    """A tell the gateway is to do at a destination ``due_in`` seconds from now; the other counts while HA is away."""

    key: NotificationKey
    due_in: float
    due_if_home_assistant_away_in: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """One alert's change within a transition.

    ``event``: id of the CloudEvent, born in the record; ``at``: its time, the integration's wall clock (content, not
    timetable). ``requests``: the whole list, which replaces the older one; None leaves it as it is.
    """

    kind: TransitionKind
    alert: Replica
    event: Ulid
    at: datetime
    requests: tuple[NotificationRequest, ...] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Transition:
    """Home Assistant → gateway: one record of the integration's memory.

    Applied once, in order; answered by a ``Receipt``. ``proposal``: the proposal this record settles; ``code``: why it
    was refused (None: it was recorded).
    A refused proposal of an unknown alert has no changes.
    """

    type: ClassVar[str] = "transition"
    position: Position
    changes: tuple[Change, ...]
    proposal: str | None = None
    code: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CaughtUp:
    """Home Assistant → gateway: the log is sent; the gateway may ask, drain and poll."""

    type: ClassVar[str] = "caught_up"


@dataclass(frozen=True, slots=True, kw_only=True)
class Notified:
    """Gateway → Home Assistant: how an ask ended, ``age`` seconds ago; again in each session for alive alerts."""

    type: ClassVar[str] = "notified"
    key: NotificationKey
    reached: bool
    age: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Propose:
    """Gateway → Home Assistant: an answer or an acknowledgement from outside; sent again in each session until settled.

    Settled by a transition carrying its id, or by ``Result``. ``answer`` is None for an acknowledgement, which then
    silences for ``acknowledge_for`` seconds. ``age``: seconds since it was given. ``by``: who, as the destination says.
    ``revision``: the ring it saw; None: none was said, the current one counts.
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
    """``data`` of a ``process_cosmos.alert.<kind>.v1`` or ``…notification_requested.v1`` CloudEvent: what a destination is told.

    ``level`` and ``round``: in ``requested`` events only, which say: please tell your people. ``data`` and ``attached``: as
    the automation gave them.
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
