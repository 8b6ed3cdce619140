"""The records of the memory: what happened to alerts, in the words of docs/alert-protocol.md.

``at``: wall time of the record. ``event``: id of the CloudEvent, born here. ``requests``: the whole list for the gateway.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import ClassVar

from custom_components.process_cosmos.contract.alerts import AlertState, Attached, Outcome, Severity
from custom_components.process_cosmos.contract.identifiers import NotificationKey, Position, Ulid


class IfInterrupted(StrEnum):
    """What becomes of an answer's actions that a crash interrupted."""

    SKIP = "skip"
    REPEAT = "repeat"


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """A choice the automation offered; ``actions``: its script sequence as JSON, which never leaves this memory."""

    name: str
    actions: str = "[]"
    if_interrupted: IfInterrupted = IfInterrupted.SKIP

    @property
    def has_actions(self) -> bool:
        """Whether anything is to be done."""
        return self.actions != "[]"


@dataclass(frozen=True, slots=True, kw_only=True)
class Content:
    """What one call of ``alert`` says. ``data``: JSON; ``user``: whose rights the answers' actions have.

    ``trusted``: an automation, a script or an administrator said it. ``mentioned``: entities of other callers, if one
    of these has called: shown, but nobody needs a right to them. ``own_message``: the message without what callers
    added who may not answer.
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
        """All entities to show."""
        return (*self.entities, *self.mentioned)


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedRequest:
    """An ask with the moments it is due: as planned, and while Home Assistant is away."""

    key: NotificationKey
    due: datetime
    due_if_home_assistant_away: datetime


type PlannedRequests = tuple[PlannedRequest, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Start:
    """The first record of a run. ``gateway``: whether one belonged to the site: then it gets the run's whole log."""

    type: ClassVar[str] = "start"
    at: datetime
    gateway: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Confirmed:
    """The gateway has applied everything up to ``position``."""

    type: ClassVar[str] = "confirmed"
    position: Position


@dataclass(frozen=True, slots=True, kw_only=True)
class Opened:
    """A new alert; its ring is 1 and goes at once."""

    type: ClassVar[str] = "opened"
    alert: Ulid
    event: Ulid
    at: datetime
    group: str
    content: Content
    requests: PlannedRequests = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Updated:
    """The same alert called again with new content: the next ring, told from ``notify_at`` on.

    ``adds_only``: by a caller who may not answer: answers to older rings count on, and the give-up stays.
    """

    type: ClassVar[str] = "updated"
    alert: Ulid
    event: Ulid
    at: datetime
    content: Content
    notify_at: datetime
    adds_only: bool = False
    requests: PlannedRequests = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Recurred:
    """The same alert called again with nothing new, ``times`` times by ``at``: counted."""

    type: ClassVar[str] = "recurred"
    alert: Ulid
    at: datetime
    times: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Acknowledged:
    """Somebody acknowledged: the next ring, put off to ``notify_at``."""

    type: ClassVar[str] = "acknowledged"
    alert: Ulid
    event: Ulid
    at: datetime
    notify_at: datetime
    by: str
    proposal: str | None = None
    requests: PlannedRequests = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class AcknowledgementExpired:
    """An acknowledgement ended unresolved."""

    type: ClassVar[str] = "acknowledgement_expired"
    alert: Ulid
    event: Ulid
    at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Rescheduled:
    """Asks became due earlier than the last list says."""

    type: ClassVar[str] = "rescheduled"
    alert: Ulid
    event: Ulid
    at: datetime
    requests: PlannedRequests


@dataclass(frozen=True, slots=True, kw_only=True)
class Unanswered:
    """Nobody answered in time; the answer named by ``if_unanswered`` is run."""

    type: ClassVar[str] = "unanswered"
    alert: Ulid
    event: Ulid
    at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Resolved:
    """It is over without an answer."""

    type: ClassVar[str] = "resolved"
    alert: Ulid
    event: Ulid
    at: datetime
    by: str
    note: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Answered:
    """Somebody chose ``answer``."""

    type: ClassVar[str] = "answered"
    alert: Ulid
    event: Ulid
    at: datetime
    answer: str
    by: str
    note: str | None = None
    proposal: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Refused:
    """A proposal was refused with ``code``; ``alert`` may be unknown here."""

    type: ClassVar[str] = "refused"
    alert: Ulid
    at: datetime
    proposal: str
    code: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Running:
    """The actions of the answer are about to run."""

    type: ClassVar[str] = "running"
    alert: Ulid
    at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """How the actions of the answer ended; ``reason``: why they failed, for people."""

    type: ClassVar[str] = "outcome"
    alert: Ulid
    event: Ulid
    at: datetime
    outcome: Outcome
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Noticed:
    """People heard of an outcome that is not as they wanted it."""

    type: ClassVar[str] = "noticed"
    alert: Ulid
    at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class NotifiedRecord:
    """How a tell ended, ours or the gateway's."""

    type: ClassVar[str] = "notified"
    key: NotificationKey
    reached: bool
    at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Restored:
    """An alert only the gateway still knew: told on, without actions. ``resolved``: over, as ``merge`` says."""

    alert: Ulid
    event: Ulid
    group: str
    revision: int
    severity: Severity
    message: str
    entities: tuple[str, ...]
    resolved: bool = False
    requests: PlannedRequests = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Reconciled:
    """An alert of this memory after the gateway's word: alive in the next ring, or closed as ``state`` says."""

    alert: Ulid
    event: Ulid
    state: AlertState
    revision: int
    answers_from: int
    requests: PlannedRequests = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Merged:
    """This memory came out of a backup and was merged with what the gateway knows.

    ``after``: the gateway's cursor then. Records between it and this one are of the time before anybody knew better.
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
    | Noticed
    | NotifiedRecord
    | Merged
)

RECORDS: Mapping[str, type[Record]] = {
    record.type: record
    for record in (
        Start,
        Confirmed,
        Opened,
        Updated,
        Recurred,
        Acknowledged,
        AcknowledgementExpired,
        Rescheduled,
        Unanswered,
        Resolved,
        Answered,
        Refused,
        Running,
        Ended,
        Noticed,
        NotifiedRecord,
        Merged,
    )
}
"""The memory's records by type."""

Eventful = (
    Opened | Updated | Acknowledged | AcknowledgementExpired | Rescheduled | Unanswered | Resolved | Answered | Ended
)
"""Records about one alert that somebody is told of."""


def proposal_of(record: Record) -> str | None:
    """Return the proposal that ``record`` settles."""
    return record.proposal if isinstance(record, Acknowledged | Answered | Refused) else None


def alerts_of(record: Record) -> tuple[Ulid, ...]:
    """Return the alerts ``record`` is about, known or not."""
    match record:
        case Start() | Confirmed():
            return ()
        case NotifiedRecord():
            return (record.key.alert,)
        case Merged():
            return (*(one.alert for one in record.restored), *(one.alert for one in record.reconciled))
        case _:
            return (record.alert,)


def events_of(record: Record) -> tuple[Ulid, ...]:
    """Return the ids of the events that were born with ``record``."""
    match record:
        case Merged():
            return (*(one.event for one in record.restored), *(one.event for one in record.reconciled))
        case _:
            return (record.event,) if isinstance(record, Eventful) else ()
