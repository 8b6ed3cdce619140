"""HTTPS headers and bodies exchanged by the gateway and the cloud endpoint."""

from dataclasses import dataclass
from typing import Final

from .errors import Code
from .identifiers import Ulid
from .session import Problem

TOKEN_HEADER: Final = "Process-Cosmos-Token"  # noqa: S105 - a header's name
"""Header of each batch: the token of the newest reply the gateway has stored; absent before the first one."""

EPOCH_HEADER: Final = "Process-Cosmos-Epoch"
"""Header of each batch: the epoch of the gateway's store, which changes when a backup is restored."""

IDENTITY_CODES: Final = frozenset(
    {Code.IDENTITY_CONFLICT, Code.CERTIFICATE_REVOKED, Code.CERTIFICATE_EXPIRED, Code.CERTIFICATE_SUPERSEDED}
)
"""Problem codes with which the endpoint refuses a site regardless of the request."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EnrolmentRequest:
    """Body of ``POST /v1/enroll``: the one-time code's secret, the site's id, a certificate request (PEM, PKCS #10)."""

    secret: str
    site: Ulid
    csr: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RenewalRequest:
    """Body of ``POST /v1/renew``: a certificate, valid or expired for at most 90 days, and its renewal request.

    ``csr``: certificate request of a new key (PEM, PKCS #10). ``proof``: ECDSA signature with SHA-256 over the bytes of
    ``csr``, made with the key of ``certificate`` (DER, hexadecimal). TLS would refuse an expired certificate, so this
    request uses no client certificate.
    """

    certificate: str
    csr: str
    proof: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Enrolled:
    """Reply to enrolment and renewal: the site's certificate, and the CA certificate to trust from now on (PEM)."""

    certificate: str
    ca: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RejectedItem:
    """Event the endpoint permanently refuses: its index in the batch, from 0, and the reason."""

    index: int
    problem: Problem


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchReceipt:
    """Reply to ``POST /v1/events``: every event of the batch is stored, except those in ``rejected``.

    ``batch``: SHA-256 of the request's body (hexadecimal), so that a reply to another request confirms nothing.
    ``token``: stored with the confirmation and sent with the next batch. ``duplicates``: indexes of events that the
    endpoint already had.
    """

    # One hash instead of a list of ids: the reply of a captive portal or proxy cannot contain it.
    batch: str
    # A copy of this gateway soon presents a token the endpoint does not know, and is recognised by that.
    token: str
    duplicates: tuple[int, ...] = ()
    rejected: tuple[RejectedItem, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class InboxItem:
    """Answer (``answer``) or acknowledgement (``acknowledge_for`` seconds) given at the cloud endpoint.

    ``revision`` None: it refers to the current revision. ``age``: seconds since it was given, by the endpoint's clock.
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
    """Reply to ``GET /v1/inbox?after=cursor`` (long poll, 25 s): the items after the cursor, oldest first.

    ``newest``: the greatest cursor the endpoint has ever assigned to an item of any site; no cursor in the page is
    greater. If it is less than the requested cursor, the endpoint never assigned that one, and the site reads from the
    beginning. None: the endpoint does not report it.
    """

    items: tuple[InboxItem, ...]
    newest: int | None = None
