"""What the gateway and the cloud endpoint say to each other over HTTPS."""

from dataclasses import dataclass
from typing import Final

from .errors import Code
from .identifiers import Ulid
from .session import Problem

TOKEN_HEADER: Final = "Process-Cosmos-Token"  # noqa: S105 - a header's name
"""With each batch: the token of the newest reply the gateway has on disk; left out before the first one."""

EPOCH_HEADER: Final = "Process-Cosmos-Epoch"
"""With each batch: the epoch of the gateway's store, a new one after a restored backup."""

IDENTITY_CODES: Final = frozenset(
    {Code.IDENTITY_CONFLICT, Code.CERTIFICATE_REVOKED, Code.CERTIFICATE_EXPIRED, Code.CERTIFICATE_SUPERSEDED}
)
"""Codes of problems by which the endpoint refuses a site, whatever it sends."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EnrolmentRequest:
    """Body of ``POST /v1/enroll``: the one-time code's secret, the site, and a certificate request (PEM, PKCS #10)."""

    secret: str
    site: Ulid
    csr: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RenewalRequest:
    """Body of ``POST /v1/renew``: the certificate to renew, also one that expired at most 90 days ago, and a request.

    ``csr``: of a new key (PEM, PKCS #10). ``proof``: ECDSA with SHA-256 of the bytes of ``csr`` by the key of
    ``certificate`` (DER, hexadecimal). TLS would refuse an expired certificate, so none is asked for.
    """

    certificate: str
    csr: str
    proof: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Enrolled:
    """The reply to both: the site's certificate, and the CA's to trust from now on (PEM)."""

    certificate: str
    ca: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RejectedItem:
    """An event the endpoint will never take: its place in the batch, from 0, and why."""

    index: int
    problem: Problem


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchReceipt:
    """Reply to ``POST /v1/events``: every event of the batch is on disk, but for the ``rejected``.

    ``batch``: SHA-256 of the request's body (hexadecimal), so that a reply to anything else confirms nothing.
    ``token``: to be kept with the confirmation and presented with the next batch. ``duplicates``: places of events that
    were there before.
    """

    batch: str
    token: str
    duplicates: tuple[int, ...] = ()
    rejected: tuple[RejectedItem, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class InboxItem:
    """An answer (``answer``) or an acknowledgement (``acknowledge_for`` seconds) given at the cloud endpoint.

    ``revision`` None: the current ring counts. ``age``: seconds since it was given, by the endpoint's clock.
    """

    id: str
    cursor: int
    alert: Ulid
    by: str
    age: float
    revision: int | None = None
    answer: str | None = None
    acknowledge_for: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class InboxPage:
    """Reply to ``GET /v1/inbox?after=cursor`` (long poll, 25 s): what came after, oldest first.

    ``newest``: the greatest cursor the endpoint has ever given, to any site's item; no cursor in the page is greater.
    If it is less than the cursor asked with, that one was never given, and the site reads from the beginning. None: the
    endpoint does not say.
    """

    items: tuple[InboxItem, ...]
    newest: int | None = None
