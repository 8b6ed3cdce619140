"""Messages about destinations, the outbox, and the inbox: settings down to the gateway, status up from it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import ClassVar

from .identifiers import Ulid


class Priority(StrEnum):
    """The outbox's priorities, first drained first; given by us, never by a device."""

    URGENT = "urgent"
    CHANGE = "change"
    READING = "reading"


class DestinationKind(StrEnum):
    """How a destination is reached: a webhook by POST, a cloud endpoint by a session with a certificate."""

    WEBHOOK = "webhook"
    CLOUD = "cloud"


class EventKind(StrEnum):
    """What a destination may subscribe to: alerts; device transitions and device events; readings."""

    ALERT = "alert"
    DEVICE = "device"
    READING = "reading"


class LinkState(StrEnum):
    """``off``: no destination; ``offline``: tried again soon; ``refused``: needs a person, tried every 15 minutes."""

    OFF = "off"
    CONNECTED = "connected"
    OFFLINE = "offline"
    REFUSED = "refused"


@dataclass(frozen=True, slots=True, kw_only=True)
class Link:
    """How one destination stands. ``address``: scheme, host and port only, the rest of a URL is a secret.

    ``label``: the name people gave it, None: none was given. ``reason``: a stable word or code for offline and
    refused. ``detail``: what the far side said, at most 200 characters without secrets. Ages in seconds, None: never.
    ``state_age``: seconds since the link entered its state.
    """

    name: str
    kind: DestinationKind
    address: str
    kinds: tuple[EventKind, ...]
    state: LinkState
    state_age: float
    reason: str | None = None
    last_contact_age: float | None = None
    label: str | None = None
    detail: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Waiting:
    """Events in the outbox not yet confirmed by every destination, per priority."""

    urgent: int = 0
    change: int = 0
    reading: int = 0


class StorageState(StrEnum):
    """``full``, ``read_only``: as the disk says; ``failing``: it reports errors, or what it gave back is damaged."""

    OK = "ok"
    FULL = "full"
    READ_ONLY = "read_only"
    FAILING = "failing"


@dataclass(frozen=True, slots=True, kw_only=True)
class Drop:
    """How many events of a priority were accepted and not sent, for one reason, since the store was made."""

    priority: Priority
    reason: str
    count: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Recovered:
    """What was read of a damaged or deleted store: rows kept, and at most how many were lost; ``at``: when.

    ``lost_unknown``: more may be lost than ``lost``; nobody can know how much.
    """

    kept: int
    lost: int
    at: datetime
    lost_unknown: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class BrokerLink:
    """How the gateway's link to the MQTT broker stands.

    ``reason``: a code while it is away. ``needs_help``: it refuses us, or has been away for 10 minutes. ``version``: of
    MQTT, as it is spoken. ``max_qos``: 0, the broker confirms nothing. ``denied``: topics its access rules keep from
    us, ``limited``: ids of devices that sent more than a device may within the last hour; the first 20 of each.
    ``turned_away``: there was no room for a device since the gateway's start.
    """

    reason: str | None = None
    needs_help: bool = False
    version: str | None = None
    max_qos: int = 1
    denied: tuple[str, ...] = ()
    limited: tuple[str, ...] = ()
    turned_away: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Status:
    """Gateway → Home Assistant, after the snapshot, then when it changes (at most once a second).

    ``dropped``: the sum of ``drops``. ``passed_over``: what devices said or were told since the gateway started that
    came to nothing, counted by reason. ``full``: priorities with a destination whose share has no room left.
    ``storage_reason``: what the disk said. ``broker_dropped``: messages the MQTT broker says it has dropped,
    ``gaps``: how often it had lost the gateway's session; both for ever. ``identity_conflict``: another
    gateway speaks as this site to the broker or to a destination. ``broker``: None without a broker.
    """

    type: ClassVar[str] = "status"
    links: tuple[Link, ...]
    waiting: Waiting
    rejected: int
    dropped: int
    broker_connected: bool
    oldest_waiting_age: float | None = None
    passed_over: Mapping[str, int] = field(default_factory=dict)
    drops: tuple[Drop, ...] = ()
    full: tuple[Priority, ...] = ()
    storage: StorageState = StorageState.OK
    storage_reason: str | None = None
    recovered: Recovered | None = None
    broker_dropped: int = 0
    gaps: int = 0
    identity_conflict: bool = False
    broker: BrokerLink | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SetWebhook:
    """Home Assistant → gateway: send events to ``url`` (a secret), with one header if asked for."""

    type: ClassVar[str] = "set_webhook"
    id: str
    name: str
    url: str
    header: str | None = None
    header_value: str | None = None
    kinds: tuple[EventKind, ...] = (EventKind.ALERT,)
    label: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SetCloud:
    """Home Assistant → gateway: enrol with a one-time code (``https://host:port#secret.sha256``); send events there."""

    type: ClassVar[str] = "set_cloud"
    id: str
    name: str
    code: str
    kinds: tuple[EventKind, ...] = (EventKind.ALERT,)
    label: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ChangeDestination:
    """Home Assistant → gateway: change a destination and keep what waits for it.

    None leaves a member as it is; an empty ``label`` or ``header`` removes it. ``url`` and ``header`` are a webhook's.
    """

    type: ClassVar[str] = "change_destination"
    id: str
    name: str
    label: str | None = None
    url: str | None = None
    header: str | None = None
    header_value: str | None = None
    kinds: tuple[EventKind, ...] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class TestDestination:
    """Home Assistant → gateway: send one test event to a destination now, past its queue; see ``DestinationTested``."""

    __test__: ClassVar[bool] = False  # not a test class, whatever pytest reads into the name
    type: ClassVar[str] = "test_destination"
    id: str
    name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class DestinationTested:
    """The reply to ``TestDestination``. ``delivered``: the reply counts as a confirmation; else ``reason`` is a code.

    ``status``: the HTTP status, None: there was no reply. ``reply``: its first kilobyte, without our secrets.
    ``approvable``: a person may vouch for a reply that does not count by itself, by sending ``digest`` back.
    """

    type: ClassVar[str] = "destination_tested"
    id: str
    delivered: bool
    reason: str | None = None
    status: int | None = None
    reply: str | None = None
    approvable: bool = False
    digest: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ApproveReply:
    """Home Assistant → gateway: a person says that replies with this body (SHA-256, hex) are the receiver's own."""

    type: ClassVar[str] = "approve_reply"
    id: str
    name: str
    digest: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RemoveDestination:
    """Home Assistant → gateway: forget a destination, with what only it was waiting for."""

    type: ClassVar[str] = "remove_destination"
    id: str
    name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ListRejected:
    """Home Assistant → gateway: what destinations refused for good, after a number; answered by ``RejectedEvents``."""

    type: ClassVar[str] = "list_rejected"
    id: str
    after: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class RejectedEvent:
    """One event a destination refused for good, and the code and sentence it gave.

    ``number``: names it to ``send_again`` and ``discard_rejected``. ``attempts``: how often it was tried.
    ``reply``: the first kilobyte of what the destination said, without our secrets; None: nothing.
    """

    event: Ulid
    destination: str
    type: str
    subject: str
    code: str
    message: str
    number: int
    attempts: int
    rejected_at: datetime
    reply: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RejectedEvents:
    """The reply to ``ListRejected``: at most 500, oldest first, fewer where a frame holds no more; none: it was all."""

    type: ClassVar[str] = "rejected_events"
    id: str
    events: tuple[RejectedEvent, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class SendAgain:
    """Home Assistant → gateway: send rejected events (None: all) again, marked ``replayed``.

    A number that is not among them is refused as ``unknown_rejected``, after the others were sent.
    """

    type: ClassVar[str] = "send_again"
    id: str
    numbers: tuple[int, ...] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class DiscardRejected:
    """Home Assistant → gateway: forget rejected events (None: all); numbers as in ``SendAgain``."""

    type: ClassVar[str] = "discard_rejected"
    id: str
    numbers: tuple[int, ...] | None = None
