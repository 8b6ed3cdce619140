"""Messages about destinations, the outbox and the inbox: settings to the gateway, status from it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import ClassVar

from .codec import request_id
from .identifiers import Ulid


class Priority(StrEnum):
    """Priorities of the outbox, in sending order; assigned by the gateway, never by a device. Unknown: change."""

    URGENT = "urgent"
    CHANGE = "change"
    READING = "reading"
    UNKNOWN = CHANGE


class DestinationKind(StrEnum):
    """Kind of a destination: a webhook (POST requests) or a cloud endpoint (HTTPS with a client certificate).

    Unknown: webhook, whose form has what every kind has; the gateway refuses what does not apply.
    """

    WEBHOOK = "webhook"
    CLOUD = "cloud"
    UNKNOWN = WEBHOOK


class EventKind(StrEnum):
    """Kinds of events a destination can subscribe to: alerts; device changes and device events; readings.

    Used in lists only, from which unknown ones are left out.
    """

    ALERT = "alert"
    DEVICE = "device"
    READING = "reading"


class LinkState(StrEnum):
    """State of a link.

    ``off``: no destination; ``offline``: retried soon; ``refused``: needs a person, retried every 15 minutes;
    ``unknown``: a state that only a newer gateway knows, never sent.
    """

    OFF = "off"
    CONNECTED = "connected"
    OFFLINE = "offline"
    REFUSED = "refused"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True, kw_only=True)
class Link:
    """Status of one destination. ``address``: scheme, host and port only, as the rest of a URL is secret.

    ``label``: the name given by a person, None without one. ``reason``: a stable code while offline or refused.
    ``detail``: the receiver's error message, at most 200 characters, without secrets. Ages are in seconds, None: never.
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
    """Number of events in the outbox not yet confirmed by every destination, per priority."""

    urgent: int = 0
    change: int = 0
    reading: int = 0


class StorageState(StrEnum):
    """State of the store's disk. ``failing``: it reports I/O errors, or returned damaged data. Unknown: failing."""

    OK = "ok"
    FULL = "full"
    READ_ONLY = "read_only"
    FAILING = "failing"
    UNKNOWN = FAILING


@dataclass(frozen=True, slots=True, kw_only=True)
class Drop:
    """Number of events of one priority that were accepted and dropped for one reason since the store was created."""

    priority: Priority
    reason: str
    count: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Recovered:
    """Result of recovering a damaged or deleted store: rows kept, the most rows that can be lost, and the time.

    ``lost_unknown``: more than ``lost`` rows may be lost; the number cannot be determined.
    """

    kept: int
    lost: int
    at: datetime
    lost_unknown: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class BrokerLink:
    """Status of the gateway's connection to the MQTT broker.

    ``reason``: a code while disconnected. ``needs_help``: the broker refuses the gateway, or has been unreachable for
    10 minutes. ``version``: the MQTT version in use. ``max_qos``: 0 if the broker does not acknowledge messages.
    ``denied``: topics that the broker's access rules deny; ``limited``: ids of devices that exceeded the rate limit
    within the last hour; the first 20 of each. ``turned_away``: a device was refused for lack of room since the
    gateway's start.
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
    """Gateway → Home Assistant: status of the gateway, sent after the snapshot and on changes (at most once a second).

    ``dropped``: the sum of ``drops``. ``passed_over``: messages from devices and writes to them since the gateway's
    start that had no effect, counted by reason. ``full``: priorities for which some destination's share of the outbox
    is full. ``storage_reason``: the disk's error message. ``broker_dropped``: messages the MQTT broker reports as
    dropped; ``gaps``: how often the broker had lost the gateway's session; neither is ever reset.
    ``identity_conflict``: another gateway uses this site's identity at the broker or at a destination. ``broker``: None
    without a broker.
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
    """Home Assistant → gateway: add a webhook that receives events at ``url`` (a secret), with an optional header."""

    type: ClassVar[str] = "set_webhook"
    id: str = request_id()
    name: str
    url: str
    header: str | None = None
    header_value: str | None = None
    kinds: tuple[EventKind, ...] = (EventKind.ALERT,)
    label: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SetCloud:
    """Home Assistant → gateway: enrol at a cloud endpoint and send events there.

    ``code``: the endpoint's one-time code, ``https://host:port#secret.sha256``.
    """

    type: ClassVar[str] = "set_cloud"
    id: str = request_id()
    name: str
    code: str
    kinds: tuple[EventKind, ...] = (EventKind.ALERT,)
    label: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ChangeDestination:
    """Home Assistant → gateway: change a destination and keep its waiting events.

    None leaves a member unchanged; an empty ``label`` or ``header`` removes it. ``url`` and ``header`` apply to
    webhooks.
    """

    type: ClassVar[str] = "change_destination"
    id: str = request_id()
    name: str
    label: str | None = None
    url: str | None = None
    header: str | None = None
    header_value: str | None = None
    kinds: tuple[EventKind, ...] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class TestDestination:
    """Home Assistant → gateway: send one test event now, bypassing the queue; answered by ``DestinationTested``."""

    __test__: ClassVar[bool] = False  # keeps pytest from collecting this class because of its name
    type: ClassVar[str] = "test_destination"
    id: str = request_id()
    name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class DestinationTested:
    """Reply to ``TestDestination``.

    ``delivered``: the receiver's reply counts as a confirmation; otherwise ``reason`` is a code. ``status``: the HTTP
    status, None without a reply. ``reply``: the first kilobyte of its body, without the gateway's secrets.
    ``approvable``: a person may approve a reply that is not recognised, by sending ``digest`` back.
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
    """Home Assistant → gateway: a person confirms that replies with this body (SHA-256, hex) come from the receiver."""

    type: ClassVar[str] = "approve_reply"
    id: str = request_id()
    name: str
    digest: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RemoveDestination:
    """Home Assistant → gateway: remove a destination, and the events that wait for it alone."""

    type: ClassVar[str] = "remove_destination"
    id: str = request_id()
    name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ListRejected:
    """Home Assistant → gateway: list the rejected events after a number; answered by ``RejectedEvents``."""

    type: ClassVar[str] = "list_rejected"
    id: str = request_id()
    after: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class RejectedEvent:
    """Event that a destination permanently refused, with the code and message of the refusal.

    ``number``: identifies it in ``send_again`` and ``discard_rejected``. ``attempts``: number of delivery attempts.
    ``reply``: the first kilobyte of the destination's reply, without the gateway's secrets; None: an empty reply.
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
    """Reply to ``ListRejected``: at most 500 events, oldest first, as many as fit a frame; empty: no more."""

    type: ClassVar[str] = "rejected_events"
    id: str
    events: tuple[RejectedEvent, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class SendAgain:
    """Home Assistant → gateway: send rejected events (None: all) again, marked ``replayed``.

    Unknown numbers are refused as ``unknown_rejected``, after the others have been queued again.
    """

    type: ClassVar[str] = "send_again"
    id: str = request_id()
    numbers: tuple[int, ...] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class DiscardRejected:
    """Home Assistant → gateway: delete rejected events (None: all); unknown numbers as in ``SendAgain``."""

    type: ClassVar[str] = "discard_rejected"
    id: str = request_id()
    numbers: tuple[int, ...] | None = None
