"""What goes through the outbox."""

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
    """One alarm or change to be accepted; ``only``: the one destination.

    Order is kept within ``key`` (order_keys.py) and priority. ``data``: anything orjson writes. ``slot``: device and
    property of a value; where room is short, a newer value of the same slot supersedes it (None: never).
    ``expires_at``: from then on it is not sent any more. ``is_own``: the gateway has made its id; any other is an
    opaque key.
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
    expires_at: datetime | None = None
    is_own: bool = False

    def encode(self, site: Ulid) -> bytes:
        """Return the event as destinations get it."""
        return encode_event(id=self.id, site=site, type=self.type, subject=self.subject, time=self.time, data=self.data)


@dataclass(frozen=True, slots=True, kw_only=True)
class OutgoingReading:
    """One reading to be sent; ``time``: the device's own, seconds since 1970. Many leave in one event."""

    device: str
    property: str
    unit: str | None
    time: float
    value: float | bool | str


class DropReason(StrEnum):
    """Why something accepted is not sent.

    ``quota``: the share was full; ``superseded``: by a newer one of its slot; ``disk``: hardly any of it is free;
    ``damaged``: what is stored is not what was; ``volume``: held back by the daily budget.
    """

    QUOTA = "quota"
    SUPERSEDED = "superseded"
    EXPIRED = "expired"
    DISK = "disk"
    DAMAGED = "damaged"
    VOLUME = "volume"


class OutboxFullError(RequestRefusedError):
    """No room for an event that nothing else would keep: nothing of it is kept, its producer has to try again."""

    def __init__(self, why: str, reason: DropReason) -> None:
        """Say why; ``reason``: what it counts as where nobody can try again."""
        super().__init__(Code.OUTBOX_FULL, f"The outbox is full: {why}. Try again later.")
        self.reason = reason


class Added(StrEnum):
    """How an event was taken.

    ``conflict``: its id is known with other content; this one is not kept, but counted. ``dropped``: there was no room;
    it is counted, and its id is not kept.
    """

    ADDED = "added"
    DUPLICATE = "duplicate"
    CONFLICT = "conflict"
    DROPPED = "dropped"


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivery:
    """One event on its way to one destination. ``attempts``: how often it has failed there.

    ``replayed``: it was rejected before and a person sent it again.
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
    """The destination has it, and said so."""


@dataclass(frozen=True, slots=True)
class Rejected:
    """The destination will never take it. ``reply``: what it said, short and without our secrets."""

    code: str
    message: str
    reply: str | None = None


@dataclass(frozen=True, slots=True)
class Failed:
    """It failed this time, while the link is up: it is tried again, and later events of its key wait for it.

    ``reply``: as in ``Rejected``, which it becomes when it is poison.
    """

    reason: str
    reply: str | None = None

    def as_poison(self, strikes: int) -> Rejected:
        """Return the verdict on what failed so often while others passed."""
        return Rejected(Code.POISON, f"failed {strikes} times while others passed: {self.reason}", self.reply)


type DeliveryResult = Delivered | Rejected | Failed


@dataclass(frozen=True, slots=True, kw_only=True)
class Depths:
    """What the outbox holds. ``ages``: seconds since the oldest that waits was accepted, of priorities where one does.

    ``bytes``: what waits for the destination furthest behind; ``full``: where one has no room left.
    Since the store was made: ``drops``, ids met again with other content (``conflicts``), ids ``forgotten`` for want
    of room.
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
        """The age of the oldest event that waits; None: none does."""
        return max(self.ages.values(), default=None)

    @property
    def dropped(self) -> int:
        """How much was dropped in all."""
        return sum(self.drops.values())


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """How much the outbox keeps, and how patient it is.

    ``quota``: bytes of events per priority, in equal shares for the destinations; one that is not given follows what is
    free on the disk. ``keeps_backlog``: priorities whose backlogs stay when their share shrinks below them.
    ``overflow_bytes``: of alarms for which there was no room; beyond it only the newest of each alert stays.
    ``id_bytes``: for remembered ids. ``unsettled``: how many events may have failed at a destination until it gets no
    others. ``strikes``: failures, with others delivered in between, that make an event poison. ``longest_backoff``:
    seconds.
    """

    quota: Mapping[Priority, int] = field(default_factory=dict)
    keeps_backlog: frozenset[Priority] = frozenset()
    overflow_bytes: int = 16 * MB
    id_bytes: int = 64 * MB
    unsettled: int = 1_000
    strikes: int = 20
    longest_backoff: float = 60
