"""What the gateway and the cloud endpoint say to each other over HTTPS."""

from dataclasses import dataclass
from enum import StrEnum

from .identifiers import Ulid
from .session import Problem


@dataclass(frozen=True, slots=True, kw_only=True)
class EnrolmentRequest:
    """Body of ``POST /v1/enroll``: the one-time code's secret, the site, and a certificate request (PEM, PKCS #10)."""

    secret: str
    site: Ulid
    csr: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Enrolled:
    """The reply: the site's certificate and the CA's (PEM)."""

    certificate: str
    ca: str


class ItemStatus(StrEnum):
    """What became of one event of a batch."""

    ACCEPTED = "accepted"
    DUPLICATE = "duplicate"
    REJECTED = "rejected"


@dataclass(frozen=True, slots=True, kw_only=True)
class ItemReceipt:
    """The endpoint's word on one event; ``problem`` when it was rejected."""

    id: str
    status: ItemStatus
    problem: Problem | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchReceipt:
    """Reply to ``POST /v1/events``: one receipt an event, in the batch's order; all accepted ones are on disk."""

    items: tuple[ItemReceipt, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class InboxItem:
    """An answer (``answer``) or an acknowledgement (``acknowledge_for`` seconds) given at the cloud endpoint.

    ``ring`` None: the current ring counts. ``age``: seconds since it was given, by the endpoint's clock.
    """

    id: str
    cursor: int
    escalation: Ulid
    by: str
    age: float
    ring: int | None = None
    answer: str | None = None
    acknowledge_for: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class InboxPage:
    """Reply to ``GET /v1/inbox?after=cursor`` (long poll, 25 s): what came after, oldest first."""

    items: tuple[InboxItem, ...]
