"""What goes through the outbox."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from process_cosmos_gateway.contract.destinations import EventKind, Priority, Waiting
from process_cosmos_gateway.contract.events import CloudEvent, site_source
from process_cosmos_gateway.contract.identifiers import Ulid


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """One event to be accepted. Order is kept within ``key`` and priority; ``only``: the one destination it is for.

    ``data``: anything orjson writes.
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

    def encode(self, site: Ulid) -> bytes:
        """Return the event as destinations get it."""
        return CloudEvent(
            id=self.id,
            source=site_source(site),
            type=self.type,
            subject=self.subject,
            time=self.time,
            data=self.data,
        ).encode()


class Added(StrEnum):
    """How an event was taken: ``conflict``: its id is known with other content; this one is not kept, but counted."""

    ADDED = "added"
    DUPLICATE = "duplicate"
    CONFLICT = "conflict"


@dataclass(frozen=True, slots=True, kw_only=True)
class Parcel:
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
    """The destination will never take it."""

    code: str
    message: str


@dataclass(frozen=True, slots=True)
class Failed:
    """It failed this time, while the link is up: it is tried again, and later events of its key wait for it."""

    reason: str


type Verdict = Delivered | Rejected | Failed


@dataclass(frozen=True, slots=True, kw_only=True)
class Depths:
    """What the outbox holds. ``oldest``: seconds since the oldest waiting event was accepted, None: none waits.

    Since the store was made: ``dropped`` measurements, ids met again with other content (``conflicts``), ids
    ``forgotten`` for want of room.
    """

    waiting: Waiting
    oldest: float | None
    rejected: int
    dropped: int
    conflicts: int
    forgotten: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """How much the outbox keeps, and how patient it is.

    Over ``waiting`` events in all, or ``measurements`` of these, the oldest measurements are dropped; alarms and
    changes never are. ``ids``: how many ids are remembered. ``unsettled``: how many events a destination may leave
    behind its cursor. ``strikes``: failures, with others delivered in between, that make an event poison.
    ``longest_rest``: seconds.
    """

    waiting: int = 1_000_000
    measurements: int = 100_000
    ids: int = 1_300_000
    unsettled: int = 1_000
    strikes: int = 20
    longest_rest: float = 60
