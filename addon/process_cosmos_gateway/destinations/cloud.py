"""The cloud endpoint: batches over mutual TLS, one receipt for each, an inbox by long poll."""

import asyncio
import logging
import os
import ssl
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from http import HTTPStatus
from itertools import accumulate
from typing import Final

from process_cosmos_gateway.contract.cloud import EPOCH_HEADER, IDENTITY_CODES, TOKEN_HEADER
from process_cosmos_gateway.contract.codec import decode_json, parse
from process_cosmos_gateway.contract.destinations import DestinationKind, EventKind
from process_cosmos_gateway.contract.errors import Code, ContractError
from process_cosmos_gateway.contract.events import BATCH_CONTENT_TYPE
from process_cosmos_gateway.contract.identifiers import Ulid
from process_cosmos_gateway.outbox import Delivered, Delivery, DeliveryResult, Failed, Rejected

from .batch_bisection import BatchBisection
from .batch_receipts import read_receipt
from .destination import MALFORMED_REPLY, Down, Polled, ProbeResult, Refused, Sent, Trouble
from .http_request import Reply, exchange, open_session
from .http_statuses import Meaning
from .inbox import read_page

BATCH = 1000
"""Events: with more, one fsync of the endpoint serves no more of them to speak of."""
LONGEST_BODY = 1 << 20
SHORTEST_BODY = 1 << 15
"""Bytes of a batch, unless one event alone is longer: fewer, down to the shortest, where the line is thin."""

BEARABLE_SECONDS = 2.0
"""A batch that takes longer was too long: an alarm that comes meanwhile waits for it."""

LONG_POLL_SECONDS = 25.0

HEALTH_SECONDS = 5.0
"""An endpoint that is well says so in this time."""

_EXPIRED = Refused(reason=Code.CERTIFICATE_EXPIRED)
_DELIVERED = Delivered()

_LOGGER = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Refusal:
    """What of problem details (RFC 9457) says who is refused."""

    code: str
    detail: str


@dataclass(frozen=True, slots=True)
class _Health:
    """What an endpoint says of itself."""

    status: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Credentials:
    """What enrolment gave: the site's key and certificate and the CA's certificate (PEM). ``repr`` shows no key.

    ``renew_at``: half of the certificate's life.
    """

    key: str = field(repr=False)
    certificate: str
    ca: str
    renew_at: datetime
    expires_at: datetime

    def tls(self) -> ssl.SSLContext:
        """Return TLS that shows the site's certificate and trusts the enrolled CA alone. Blocks for a moment.

        Raises ``ssl.SSLError`` or ``ValueError`` if the credentials cannot be used.
        """
        if not self.ca:
            raise ValueError("there is no CA to trust")  # with none, OpenSSL would trust all of the system's
        context = ssl.create_default_context(cadata=self.ca)
        # OpenSSL reads keys from files only: this one is in memory, where a power cut leaves nothing of it.
        with os.fdopen(os.memfd_create("certificate"), "w", encoding="ascii") as file:
            file.write(self.key + self.certificate)
            file.flush()
            context.load_cert_chain(f"/proc/self/fd/{file.fileno()}")
        return context


class Cloud:
    """Sends batches by joining stored bytes."""

    kind: Final = DestinationKind.CLOUD
    takes_all: Final = True

    def __init__(
        self,
        *,
        name: str,
        url: str,
        kinds: tuple[EventKind, ...],
        credentials: Credentials,
        tls: ssl.SSLContext,
        epoch: Ulid,
        now: Callable[[], datetime],
        label: str | None = None,
    ) -> None:
        """Take the settings, TLS made of the credentials, the store's epoch, the wall clock (when they expire)."""
        self.name = name
        self.label = label
        self.address = url
        self.kinds = kinds
        self._isolation = BatchBisection.of(BATCH)
        self._is_in_doubt = False
        self._room = LONGEST_BODY
        self._expires_at = credentials.expires_at
        self._epoch = epoch
        self._now = now
        # One connection: to the endpoint, what comes by an older one was held up on the way.
        self._session = open_session(tls, connections=1)
        self._inbox = open_session(tls, connections=1)

    @property
    def batch(self) -> int:
        """The most parcels to choose a batch from, now."""
        return self._isolation.wanted

    async def send(self, deliveries: Sequence[Delivery], *, proven: bool, token: str | None) -> Sent:
        """Send one batch of these; after one that failed smaller ones, until the event is found that makes it fail.

        ``token``: of the newest reply that is settled on disk, by which the endpoint tells a copy of this site.
        """
        if self._now() >= self._expires_at:
            return Sent(trouble=_EXPIRED)
        deliveries = fitting(self._isolation.choose(deliveries), self._room)
        headers = {"Content-Type": BATCH_CONTENT_TYPE, EPOCH_HEADER: self._epoch}
        if token is not None:
            headers[TOKEN_HEADER] = token
        body = b"[" + b",\n".join([delivery.body for delivery in deliveries]) + b"]"
        begun = time.monotonic()
        reply = await exchange(self._session, "POST", f"{self.address}/v1/events", headers=headers, body=body)
        self._make_room(time.monotonic() - begun)
        if not isinstance(reply, Reply):
            return await self._failed(deliveries, reply)
        if refused := self._refused(reply):
            return Sent(trouble=refused)
        sent = self._understand(deliveries, body, reply, proven=proven)
        if isinstance(sent.trouble, Refused):
            self._room = SHORTEST_BODY  # each new alarm is a try, which may be refused again
        if isinstance(sent.trouble, Down) and sent.trouble.of_event:
            return await self._failed(deliveries, sent.trouble)
        return sent

    def _make_room(self, seconds: float) -> None:
        """Follow the line: it tells by its pace how many bytes it bears."""
        room = self._room // 2 if seconds > BEARABLE_SECONDS else self._room * 2
        self._room = min(LONGEST_BODY, max(SHORTEST_BODY, room))

    def _refused(self, reply: Reply) -> Refused | None:
        """Return why this site is refused, whatever it sends; None: the reply is about what was sent."""
        if reply.status not in (HTTPStatus.FORBIDDEN, HTTPStatus.CONFLICT):
            return None
        try:
            problem = parse(_Refusal, decode_json(reply.body))
        except ContractError:
            return None
        if problem.code not in IDENTITY_CODES:
            return None
        _LOGGER.warning("%s: %s", self.name, problem.detail)
        return Refused(reason=problem.code)

    def _understand(self, deliveries: Sequence[Delivery], body: bytes, reply: Reply, *, proven: bool) -> Sent:
        match reply.meaning(single=len(deliveries) == 1, proven=proven):
            case Meaning.DELIVERED if reply.status == HTTPStatus.CONFLICT:
                self._isolation = self._isolation.passed(deliveries)
                return Sent(results=[(deliveries[0], Delivered())])
            case Meaning.DELIVERED:
                return self._receipt(deliveries, body, reply)
            case Meaning.SPLIT:
                self._isolation = self._isolation.split(deliveries)
                return Sent()
            case Meaning.REJECTED:
                self._isolation = self._isolation.passed(deliveries)
                return Sent(results=[(deliveries[0], _rejection(reply))])
            case _:
                return Sent(trouble=reply.trouble)

    async def _failed(self, deliveries: Sequence[Delivery], trouble: Trouble) -> Sent:
        """Tell a link that is down from an event the endpoint fails at: then the endpoint answers other requests.

        The event is looked for without a pause. If nothing was delivered between two that failed alone, it is the
        link's trouble too, or the endpoint takes nothing at all.
        """
        if not trouble.of_event or await self._sick() is not None:
            return Sent(trouble=replace(trouble, of_event=False))
        self._isolation = self._isolation.failed(deliveries)
        if len(deliveries) > 1:
            return Sent()
        in_doubt, self._is_in_doubt = self._is_in_doubt, True
        failed = Failed(trouble.reason, trouble.detail)
        return Sent(results=[(deliveries[0], failed)], trouble=trouble if in_doubt else None)

    async def _sick(self) -> Trouble | None:
        """Ask the endpoint whether it is well; return what is wrong, None: nothing."""
        try:
            async with asyncio.timeout(HEALTH_SECONDS):
                reply = await exchange(self._session, "GET", f"{self.address}/health")
        except TimeoutError:
            return Down(reason="timeout")
        if not isinstance(reply, Reply):
            return reply
        if reply.meaning(single=True, proven=True) is not Meaning.DELIVERED:
            return reply.trouble
        try:
            healthy = parse(_Health, decode_json(reply.body)).status == "ok"
        except ContractError:
            return MALFORMED_REPLY
        return None if healthy else MALFORMED_REPLY

    def _receipt(self, deliveries: Sequence[Delivery], body: bytes, reply: Reply) -> Sent:
        """Match the receipt with the batch; one that cannot be read, or of anything else, confirms nothing."""
        try:
            receipt = read_receipt(reply.body, body, len(deliveries))
        except ContractError as error:
            return Sent(trouble=replace(MALFORMED_REPLY, of_event=True, detail=str(error)))
        self._isolation = self._isolation.passed(deliveries)
        self._is_in_doubt = False
        results: list[tuple[Delivery, DeliveryResult]] = [
            (delivery, receipt.rejected.get(place, _DELIVERED)) for place, delivery in enumerate(deliveries)
        ]
        return Sent(results=results, token=receipt.token)

    async def poll(self, after: int) -> Polled:
        """Ask for inbox items after a cursor; the endpoint holds the reply back until there is one, at most 25 s."""
        if self._now() >= self._expires_at:
            return Polled(trouble=_EXPIRED)
        url = f"{self.address}/v1/inbox?after={after}"
        reply = await exchange(self._inbox, "GET", url, extra_patience=LONG_POLL_SECONDS)
        if not isinstance(reply, Reply):
            return Polled(trouble=reply)
        if refused := self._refused(reply):
            return Polled(trouble=refused)
        return self._page(reply, after)

    def _page(self, reply: Reply, after: int) -> Polled:
        if reply.meaning(single=True, proven=False) is not Meaning.DELIVERED:
            return Polled(trouble=reply.trouble)
        try:
            page = read_page(self.name, reply.body, after)
        except ContractError as error:
            return Polled(trouble=replace(MALFORMED_REPLY, detail=str(error)))
        return Polled(items=page.items, cursor=page.cursor)

    async def probe(self, event: bytes) -> ProbeResult:  # noqa: ARG002 - the Protocol's
        """Ask whether the endpoint is well, and for the inbox, which only a site it knows may read.

        No test event goes there: an endpoint keeps for ever what it takes.
        """
        if self._now() >= self._expires_at:
            return ProbeResult(delivered=False, reason=_EXPIRED.reason)
        if trouble := await self._sick():
            return ProbeResult(delivered=False, reason=trouble.reason, reply=trouble.detail)
        reply = await exchange(
            self._inbox, "GET", f"{self.address}/v1/inbox?after=0&wait=0", extra_patience=LONG_POLL_SECONDS
        )
        if not isinstance(reply, Reply):
            return ProbeResult(delivered=False, reason=reply.reason)
        trouble = self._refused(reply) or self._page(reply, 0).trouble
        if trouble is not None:
            return ProbeResult(delivered=False, reason=trouble.reason, status=reply.status, reply=reply.quote())
        return ProbeResult(delivered=True, status=reply.status)

    async def close(self) -> None:
        """End the connections."""
        await self._session.close()
        await self._inbox.close()


def fitting(deliveries: Sequence[Delivery], room: int) -> Sequence[Delivery]:
    """Return the first of ``deliveries`` that make a body of less than ``room`` bytes, at least one."""
    sizes = accumulate(len(delivery.body) + 2 for delivery in deliveries)
    return deliveries[: max(1, sum(size < room for size in sizes))]


def _rejection(reply: Reply) -> Rejected:
    return Rejected(Code.REFUSED_BY_DESTINATION, f"The endpoint replied {reply.status}.", reply.quote())
