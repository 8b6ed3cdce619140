"""Records of the record log: everything that happens to alerts, as docs/alert-protocol.md describes it.

``at``: time of the record. ``event``: id of its CloudEvent. ``requests``: the complete list of notification requests
for the gateway.
"""

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import ClassVar, get_args, override

from custom_components.process_cosmos.contract.alerts import AlertState, Attached, Outcome, Severity, TransitionKind
from custom_components.process_cosmos.contract.identifiers import NotificationKey, Position, Ulid


class IfInterrupted(StrEnum):
    """Treatment of an answer's actions that a restart interrupted."""

    SKIP = "skip"
    REPEAT = "repeat"


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """An answer on offer; ``actions``: its script sequence as JSON, which is never sent to the gateway."""

    name: str
    actions: str = "[]"
    if_interrupted: IfInterrupted = IfInterrupted.SKIP

    @property
    def has_actions(self) -> bool:
        """Whether the answer has actions to run."""
        return self.actions != "[]"


@dataclass(frozen=True, slots=True, kw_only=True)
class Content:
    """Content of an alert, from one or more calls of ``alert``.

    ``data``: JSON. ``user``: id of the user whose permissions the answers' actions have. ``trusted``: a call came
    from an automation, a script or an administrator. ``mentioned``: entities that only other callers named; they are
    shown, but answering requires no permission for them. ``own_message``: the message without the additions of callers
    who may not answer.
    """

    message: str
    severity: Severity
    entities: tuple[str, ...] = ()
    answers: tuple[Answer, ...] = ()
    if_unanswered: str | None = None
    give_up_after: float
    data: str | None = None
    attached: tuple[Attached, ...] = ()
    user: str | None = None
    trusted: bool = True
    mentioned: tuple[str, ...] = ()
    own_message: str | None = None

    @property
    def about(self) -> tuple[str, ...]:
        """All entities that are shown: those of trusted calls, then those only mentioned."""
        return (*self.entities, *self.mentioned)


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedRequest:
    """A notification request with two due times: the planned one, and the one if Home Assistant is away."""

    key: NotificationKey
    due: datetime
    due_if_home_assistant_away: datetime


type PlannedRequests = tuple[PlannedRequest, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class AlertRecord:
    """A record about one alert, which may be unknown."""

    alert: Ulid
    at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class AlertEvent:
    """A change of one alert that is sent to the gateway as an event."""

    alert: Ulid
    event: Ulid

    @property
    @abstractmethod
    def kind(self) -> TransitionKind:
        """The kind of the change."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EventRecord(AlertEvent):
    """A record that is one ``AlertEvent``; its type is the kind of the change."""

    type: ClassVar[str]
    at: datetime

    @property
    @override
    def kind(self) -> TransitionKind:
        """The kind of the change."""
        return TransitionKind(self.type)


@dataclass(frozen=True, slots=True, kw_only=True)
class Start:
    """First record of a run. ``gateway``: whether the site had one, which then gets all records of the run."""

    type: ClassVar[str] = "start"
    at: datetime
    gateway: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Confirmed:
    """Confirmation that the gateway has applied everything up to ``position``."""

    type: ClassVar[str] = "confirmed"
    position: Position


@dataclass(frozen=True, slots=True, kw_only=True)
class Opened(EventRecord):
    """A new alert, with revision 1, which is notified at once."""

    type: ClassVar[str] = "opened"
    group: str
    content: Content
    requests: PlannedRequests = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Updated(EventRecord):
    """A repeated call with new content, which creates a revision that is notified from ``notify_at`` on.

    ``adds_only``: the caller may not answer, so answers to older revisions stay valid and the give-up time is kept.
    """

    type: ClassVar[str] = "updated"
    content: Content
    notify_at: datetime
    adds_only: bool = False
    requests: PlannedRequests = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Recurred(AlertRecord):
    """Repeated calls without new content: ``times`` calls, the last one at ``at``."""

    type: ClassVar[str] = "recurred"
    times: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Acknowledged(EventRecord):
    """An acknowledgement, which creates a revision that is notified from ``notify_at`` on."""

    type: ClassVar[str] = "acknowledged"
    notify_at: datetime
    by: str
    proposal: str | None = None
    requests: PlannedRequests = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class AcknowledgementExpired(EventRecord):
    """The end of an acknowledgement without an answer or a resolution."""

    type: ClassVar[str] = "acknowledgement_expired"


@dataclass(frozen=True, slots=True, kw_only=True)
class Rescheduled(EventRecord):
    """Notification requests that are due earlier than in the last recorded list."""

    type: ClassVar[str] = "rescheduled"
    requests: PlannedRequests


@dataclass(frozen=True, slots=True, kw_only=True)
class Unanswered(EventRecord):
    """The end of an alert that nobody answered in time; the answer named by ``if_unanswered`` is run."""

    type: ClassVar[str] = "unanswered"


@dataclass(frozen=True, slots=True, kw_only=True)
class Resolved(EventRecord):
    """The end of an alert without an answer."""

    type: ClassVar[str] = "resolved"
    by: str
    note: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Answered(EventRecord):
    """The end of an alert by ``answer``."""

    type: ClassVar[str] = "answered"
    answer: str
    by: str
    note: str | None = None
    proposal: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Refused(AlertRecord):
    """Refusal of a proposal with ``code``; ``alert`` may be unknown."""

    type: ClassVar[str] = "refused"
    proposal: str
    code: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Running(AlertRecord):
    """Start of the answer's actions, recorded before the first one runs."""

    type: ClassVar[str] = "running"


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended(EventRecord):
    """Outcome of the answer's actions; ``reason``: why they failed, shown to people."""

    type: ClassVar[str] = "outcome"
    outcome: Outcome
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class OutcomeReported(AlertRecord):
    """Note that people were notified of an unsuccessful outcome, or that trying to was given up."""

    type: ClassVar[str] = "noticed"


@dataclass(frozen=True, slots=True, kw_only=True)
class NotifiedRecord:
    """Outcome of a notification that Home Assistant or the gateway sent."""

    type: ClassVar[str] = "notified"
    key: NotificationKey
    reached: bool
    at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Restored(AlertEvent):
    """An alert that only the gateway knew, restored without actions; ``resolved``: closed, as ``merge`` decided."""

    group: str
    revision: int
    severity: Severity
    message: str
    entities: tuple[str, ...]
    resolved: bool = False
    requests: PlannedRequests = ()

    @property
    @override
    def kind(self) -> TransitionKind:
        """The kind of the change."""
        return TransitionKind.RESOLVED if self.resolved else TransitionKind.RESTORED


@dataclass(frozen=True, slots=True, kw_only=True)
class Reconciled(AlertEvent):
    """An alert of this log after a merge: alive in the next revision, or closed with ``state``."""

    state: AlertState
    revision: int
    answers_from: int
    requests: PlannedRequests = ()

    @property
    @override
    def kind(self) -> TransitionKind:
        """The kind of the change."""
        return TransitionKind.RECONCILED


@dataclass(frozen=True, slots=True, kw_only=True)
class Merged:
    """Merge of this log, which was restored from a backup, with the alerts that the gateway knows.

    ``after``: the gateway's cursor at that time. Records between it and this one were written without knowledge of the
    gateway's state.
    """

    type: ClassVar[str] = "merged"
    at: datetime
    restored: tuple[Restored, ...]
    reconciled: tuple[Reconciled, ...]
    after: Position | None = None


type Record = (
    Start
    | Confirmed
    | Opened
    | Updated
    | Recurred
    | Acknowledged
    | AcknowledgementExpired
    | Rescheduled
    | Unanswered
    | Resolved
    | Answered
    | Refused
    | Running
    | Ended
    | OutcomeReported
    | NotifiedRecord
    | Merged
)

RECORDS: Mapping[str, type[Record]] = {record.type: record for record in get_args(Record.__value__)}
"""Record classes by type."""


def proposal_of(record: Record) -> str | None:
    """Return the id of the proposal that ``record`` settles, if any."""
    return record.proposal if isinstance(record, Acknowledged | Answered | Refused) else None


def alert_events(record: Record) -> tuple[AlertEvent, ...]:
    """Return the events of ``record``, each for another alert."""
    if isinstance(record, Merged):
        return (*record.restored, *record.reconciled)
    return (record,) if isinstance(record, EventRecord) else ()


def alerts_of(record: Record) -> tuple[Ulid, ...]:
    """Return the ids of the alerts in ``record``, which may be unknown."""
    match record:
        case AlertRecord():
            return (record.alert,)
        case NotifiedRecord():
            return (record.key.alert,)
        case _:
            return tuple(event.alert for event in alert_events(record))
