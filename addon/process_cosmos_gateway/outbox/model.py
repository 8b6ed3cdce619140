"""Events, deliveries, delivery results, limits and depths of the outbox."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any

from process_cosmos_gateway.contract.destinations import EventKind, Priority, Waiting
from process_cosmos_gateway.contract.errors import Code
from process_cosmos_gateway.contract.events import encode_event
from process_cosmos_gateway.contract.identifiers import Ulid
from process_cosmos_gateway.errors import RequestRefusedError

from .quotas import MB


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """An urgent event or a change, before it is accepted.

    Events of the same ``key`` (order_keys.py) and priority are delivered in order. ``only``: the single destination
    (None: every subscriber of ``kind``). ``data``: any value orjson can encode. ``slot``: the alert, or
    device and property of a value; when the quota is exceeded, a newer event of the same slot supersedes an older one
    (None: never).
    ``is_own``: the gateway generated ``id``; any other id is an opaque key.
    """

    id: Ulid
    type: str
    kind: EventKind
    priority: Priority
    subject: str
    key: str
    time: datetime
    data: Any
    only: str | None = None
    slot: str | None = None
    is_own: bool = False

    def encode(self, site: Ulid) -> bytes:
        """Return the event as the JSON CloudEvent that destinations receive."""
        return encode_event(id=self.id, site=site, type=self.type, subject=self.subject, time=self.time, data=self.data)


@dataclass(frozen=True, slots=True, kw_only=True)
class OutgoingReading:
    """A reading to be sent, many per event. ``time``: the device's timestamp, seconds since 1970."""

    device: str
    property: str
    unit: str | None
    time: float
    value: float


class DropReason(StrEnum):
    """The reason why an event or a reading is never sent to a destination.

    ``quota``: the destination's share was full; ``superseded``: by a newer event of the same slot or alert;
    ``disk``: the disk was almost full; ``damaged``: the stored row does not match
    its checksum; ``volume``: withheld by the daily budget.
    """

    QUOTA = "quota"
    SUPERSEDED = "superseded"
    DISK = "disk"
    DAMAGED = "damaged"
    VOLUME = "volume"


class OutboxFullError(RequestRefusedError):
    """There is no room for an event that is stored nowhere else: nothing of it is stored; the producer must retry."""

    def __init__(self, why: str, reason: DropReason) -> None:
        """Build the message from ``why``; ``reason`` is counted where no producer can retry the event."""
        super().__init__(Code.OUTBOX_FULL, f"The outbox is full: {why}. Try again later.")
        self.reason = reason


class Added(StrEnum):
    """The outcome of accepting an event.

    ``duplicate``: an event with this id and content was accepted before. ``conflict``: the id is known with other
    content; this event is counted and not stored. ``dropped``: there was no room; the event is counted, and neither it
    nor its id is stored.
    """

    ADDED = "added"
    DUPLICATE = "duplicate"
    CONFLICT = "conflict"
    DROPPED = "dropped"


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivery:
    """An event to be sent to one destination. ``attempts``: how often sending it there has failed.

    ``replayed``: the destination rejected it before, and a user requeued it.
    """

    priority: Priority
    sequence: int
    id: Ulid
    type: str
    subject: str
    key: str
    body: bytes
    attempts: int = 0
    replayed: bool = False


@dataclass(frozen=True, slots=True)
class Delivered:
    """The destination confirmed the event."""


@dataclass(frozen=True, slots=True)
class Rejected:
    """The destination permanently refused the event. ``reply``: an excerpt of its response, without secrets."""

    code: str
    message: str
    reply: str | None = None


@dataclass(frozen=True, slots=True)
class Failed:
    """This attempt failed while the link is up: the event is retried, and later events of its key wait for it.

    ``reply``: as in ``Rejected``, into which repeated failures turn (``as_poison``).
    """

    reason: str
    reply: str | None = None

    def as_poison(self, strikes: int) -> Rejected:
        """Return the rejection of an event that failed ``strikes`` times while other events were delivered."""
        return Rejected(
            Code.POISON, f"failed {strikes} times while other events were delivered: {self.reason}", self.reply
        )


type DeliveryResult = Delivered | Rejected | Failed


@dataclass(frozen=True, slots=True, kw_only=True)
class Depths:
    """The size of the outbox's queues. ``ages``: seconds since the oldest pending event was accepted, where one is.

    ``bytes``: the backlog of the destination furthest behind; ``full``: priorities with a destination that has no room
    left. Totals since the store was created: ``drops``, ``conflicts`` (known ids with other content) and ``forgotten``
    (known ids deleted to stay within the limit).
    """

    waiting: Waiting
    ages: Mapping[Priority, float]
    rejected: int
    conflicts: int
    forgotten: int
    bytes: Mapping[Priority, int]
    drops: Mapping[tuple[Priority, DropReason], int]
    full: frozenset[Priority]

    @property
    def oldest(self) -> float | None:
        """The age in seconds of the oldest pending event; None: there is none."""
        return max(self.ages.values(), default=None)

    @property
    def dropped(self) -> int:
        """The number of drops over all priorities and reasons."""
        return sum(self.drops.values())


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """The limits on stored bytes, failures and retry delays.

    ``quota``: bytes of events per priority, divided equally among the destinations; a priority that is not given
    follows the free disk space. ``keeps_backlog``: priorities whose backlog is not cut when its share shrinks.
    ``overflow_bytes``: more bytes for urgent events of alerts; beyond them only the newest event of each alert stays.
    ``id_bytes``: size of the table of known ids. ``unsettled``: events that may have failed at a destination before it
    is sent no others. ``strikes``: failures, with a delivery of another event in between, after which an event is
    rejected as poison. ``longest_backoff``: seconds.
    """

    quota: Mapping[Priority, int] = field(default_factory=dict)
    keeps_backlog: frozenset[Priority] = frozenset()
    overflow_bytes: int = 16 * MB
    id_bytes: int = 64 * MB
    unsettled: int = 1_000
    strikes: int = 20
    longest_backoff: float = 60
