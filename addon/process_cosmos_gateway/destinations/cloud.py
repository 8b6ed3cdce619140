"""The cloud endpoint: batches over mutual TLS with a receipt for each, and an inbox read by long polling."""

import asyncio
import logging
import ssl
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial
from http import HTTPStatus
from itertools import accumulate
from typing import Final

from process_cosmos_gateway.contract.cloud import EPOCH_HEADER, IDENTITY_CODES, TOKEN_HEADER
from process_cosmos_gateway.contract.codec import decode_json, members, parse
from process_cosmos_gateway.contract.decoder import OncePerPath
from process_cosmos_gateway.contract.durations import LONG_POLL
from process_cosmos_gateway.contract.errors import Code, ContractError
from process_cosmos_gateway.contract.events import BATCH_CONTENT_TYPE
from process_cosmos_gateway.contract.identifiers import Ulid
from process_cosmos_gateway.outbox import Delivered, Delivery, DeliveryResult, Failed, Rejected

from .batch_bisection import BatchBisection
from .batch_receipts import parse_receipt
from .destination import MALFORMED_REPLY, Down, Polled, ProbeResult, Refused, Sent, Trouble
from .http_request import Reply, open_session, send_request
from .http_statuses import Meaning
from .inbox import parse_inbox_page
from .settings import CloudSettings

BATCH = 1000
"""Events in a batch. Larger batches hardly raise the number of events per fsync of the endpoint."""
LONGEST_BODY = 1 << 20
SHORTEST_BODY = 1 << 15
"""Bounds of a batch in bytes, unless a single event is longer; slow replies lower the limit to the shortest."""

SLOW_SECONDS = 2.0
"""A batch that takes longer is too large: an urgent event enqueued meanwhile waits for it."""

HEALTH_SECONDS = 5.0
"""Time limit for the endpoint's health check."""

_EXPIRED = Refused(reason=Code.CERTIFICATE_EXPIRED)
_DELIVERED = Delivered()

_LOGGER = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _ProblemDetails:
    """The members of problem details (RFC 9457) that identify a refusal of the site."""

    code: str
    detail: str


class Cloud:
    """Sends batches, built by joining stored bytes."""

    accepts_batches: Final = True

    def __init__(
        self, settings: CloudSettings, *, tls: ssl.SSLContext, epoch: Ulid, now: Callable[[], datetime]
    ) -> None:
        """Send to the endpoint of ``settings``. ``tls``: made from its credentials; ``now`` returns the wall time."""
        self._name = settings.name
        self._url = settings.url
        self._bisection = BatchBisection.initial(BATCH)
        self._is_in_doubt = False
        self._body_limit = LONGEST_BODY
        self._expires_at = settings.credentials.expires_at
        self._epoch = epoch
        self._now = now
        self._note = OncePerPath(partial(_log_report, self._name))
        # One connection each: the endpoint treats events from an older connection as delayed on the way.
        self._session = open_session(tls, connections=1)
        self._inbox = open_session(tls, connections=1)

    @property
    def batch(self) -> int:
        """The greatest number of events to choose a batch from at present."""
        return self._bisection.fetch_limit

    async def send(self, deliveries: Sequence[Delivery], *, proven: bool, token: str | None) -> Sent:
        """Send one batch. After a failed batch send smaller ones until the event that causes the failure is found.

        ``token``: from the newest reply settled on disk; it lets the endpoint recognise a copy of this site.
        """
        if self._now() >= self._expires_at:
            return Sent(trouble=_EXPIRED)
        deliveries = limit_body(self._bisection.choose(deliveries), self._body_limit)
        headers = {"Content-Type": BATCH_CONTENT_TYPE, EPOCH_HEADER: self._epoch}
        if token is not None:
            headers[TOKEN_HEADER] = token
        # Stored bytes are joined, not encoded again; the line breaks let an endpoint split a batch without parsing it.
        body = b"[" + b",\n".join([delivery.body for delivery in deliveries]) + b"]"
        begun = time.monotonic()
        reply = await send_request(self._session, "POST", f"{self._url}/v1/events", headers=headers, body=body)
        self._adapt_body_limit(time.monotonic() - begun)
        if not isinstance(reply, Reply):
            return await self._failed(deliveries, reply)
        if refused := self._identity_refusal(reply):
            return Sent(trouble=refused)
        sent = self._interpret_reply(deliveries, body, reply, proven=proven)
        if isinstance(sent.trouble, Refused):
            self._body_limit = SHORTEST_BODY  # each new urgent event is sent, and may be refused again
        if isinstance(sent.trouble, Down) and sent.trouble.event_suspected:
            return await self._failed(deliveries, sent.trouble)
        return sent

    def _adapt_body_limit(self, seconds: float) -> None:
        """Halve the size limit of batches after a slow reply, double it after a fast one."""
        limit = self._body_limit // 2 if seconds > SLOW_SECONDS else self._body_limit * 2
        self._body_limit = min(LONGEST_BODY, max(SHORTEST_BODY, limit))

    def _identity_refusal(self, reply: Reply) -> Refused | None:
        """Return why the endpoint refuses this site, or None if the reply concerns the events."""
        if reply.status not in (HTTPStatus.FORBIDDEN, HTTPStatus.CONFLICT):
            return None
        try:
            problem = parse(_ProblemDetails, decode_json(reply.body))
        except ContractError:
            return None
        if problem.code not in IDENTITY_CODES:
            return None
        _LOGGER.warning("%s: %s", self._name, problem.detail)
        return Refused(reason=problem.code)

    def _interpret_reply(self, deliveries: Sequence[Delivery], body: bytes, reply: Reply, *, proven: bool) -> Sent:
        match reply.meaning(single=len(deliveries) == 1, proven=proven):
            # Only a batch of one gets here: for several events a 409 does not say which one is known.
            case Meaning.DELIVERED if reply.status == HTTPStatus.CONFLICT:
                self._bisection = self._bisection.settled(deliveries)
                return Sent(results=[(deliveries[0], Delivered())])
            case Meaning.DELIVERED:
                return self._match_receipt(deliveries, body, reply)
            case Meaning.SPLIT:
                self._bisection = self._bisection.split(deliveries)
                return Sent()
            case Meaning.REJECTED:
                self._bisection = self._bisection.settled(deliveries)
                return Sent(results=[(deliveries[0], _rejection(reply))])
            case _:
                return Sent(trouble=reply.trouble)

    async def _failed(self, deliveries: Sequence[Delivery], trouble: Trouble) -> Sent:
        """Distinguish a link that is down from an event that makes the endpoint fail, by a health check.

        The search for the event continues without a pause. If nothing was delivered between two events that failed
        alone, the failure is reported as the link's too: the endpoint may accept nothing at all.
        """
        if not trouble.event_suspected or await self._check_health() is not None:
            # The link is down: urgent events would not get through either, so none ends the pause.
            return Sent(trouble=replace(trouble, event_suspected=False))
        self._bisection = self._bisection.failed(deliveries)
        if len(deliveries) > 1:
            return Sent()
        in_doubt, self._is_in_doubt = self._is_in_doubt, True
        failed = Failed(trouble.reason, trouble.detail)
        return Sent(results=[(deliveries[0], failed)], trouble=trouble if in_doubt else None)

    async def _check_health(self) -> Trouble | None:
        """Request the endpoint's health; return what is wrong, or None."""
        try:
            async with asyncio.timeout(HEALTH_SECONDS):
                reply = await send_request(self._session, "GET", f"{self._url}/health")
        except TimeoutError:
            return Down(reason="timeout")
        if not isinstance(reply, Reply):
            return reply
        if reply.meaning(single=True, proven=True) is not Meaning.DELIVERED:
            return reply.trouble
        return None if members(reply.body).get("status") == "ok" else MALFORMED_REPLY

    def _match_receipt(self, deliveries: Sequence[Delivery], body: bytes, reply: Reply) -> Sent:
        """Match the receipt with the batch; an invalid receipt, or one for another batch, confirms nothing."""
        try:
            receipt = parse_receipt(reply.body, body, len(deliveries), self._note)
        except ContractError as error:
            return Sent(trouble=replace(MALFORMED_REPLY, event_suspected=True, detail=str(error)))
        self._bisection = self._bisection.settled(deliveries)
        self._is_in_doubt = False
        results: list[tuple[Delivery, DeliveryResult]] = [
            (delivery, receipt.rejected.get(place, _DELIVERED)) for place, delivery in enumerate(deliveries)
        ]
        return Sent(results=results, token=receipt.token)

    async def poll(self, after: int) -> Polled:
        """Fetch inbox items after a cursor; the endpoint delays an empty reply by up to 25 s."""
        if self._now() >= self._expires_at:
            return Polled(trouble=_EXPIRED)
        url = f"{self._url}/v1/inbox?after={after}"
        reply = await send_request(self._inbox, "GET", url, extra_seconds=LONG_POLL)
        if not isinstance(reply, Reply):
            return Polled(trouble=reply)
        if refused := self._identity_refusal(reply):
            return Polled(trouble=refused)
        return self._parse_page(reply, after)

    def _parse_page(self, reply: Reply, after: int) -> Polled:
        if reply.meaning(single=True, proven=False) is not Meaning.DELIVERED:
            return Polled(trouble=reply.trouble)
        try:
            page = parse_inbox_page(self._name, reply.body, after, self._note)
        except ContractError as error:
            return Polled(trouble=replace(MALFORMED_REPLY, detail=str(error)))
        return Polled(items=page.items, cursor=page.cursor)

    async def probe(self, event: bytes) -> ProbeResult:  # noqa: ARG002 - the Protocol's
        """Check the endpoint's health, then read the inbox, which only an enrolled site may do.

        No test event is sent: an endpoint keeps accepted events for ever.
        """
        if self._now() >= self._expires_at:
            return ProbeResult(delivered=False, reason=_EXPIRED.reason)
        if trouble := await self._check_health():
            return ProbeResult(delivered=False, reason=trouble.reason, reply=trouble.detail)
        reply = await send_request(self._inbox, "GET", f"{self._url}/v1/inbox?after=0&wait=0", extra_seconds=LONG_POLL)
        if not isinstance(reply, Reply):
            return ProbeResult(delivered=False, reason=reply.reason)
        trouble = self._identity_refusal(reply) or self._parse_page(reply, 0).trouble
        if trouble is not None:
            return ProbeResult(delivered=False, reason=trouble.reason, status=reply.status, reply=reply.quote())
        return ProbeResult(delivered=True, status=reply.status)

    async def close(self) -> None:
        """Close all connections to the receiver."""
        await self._session.close()
        await self._inbox.close()


def _log_report(name: str, path: str, reason: str) -> None:
    _LOGGER.warning("%s: its reply was used without a part that this version does not know: %s %s", name, path, reason)


def limit_body(deliveries: Sequence[Delivery], limit: int) -> Sequence[Delivery]:
    """Return the first of ``deliveries`` whose body is shorter than ``limit`` bytes, at least one."""
    sizes = accumulate(len(delivery.body) + 2 for delivery in deliveries)
    return deliveries[: max(1, sum(size < limit for size in sizes))]


def _rejection(reply: Reply) -> Rejected:
    return Rejected(Code.REFUSED_BY_DESTINATION, f"The endpoint replied {reply.status}.", reply.quote())
