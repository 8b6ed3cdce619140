"""The cloud endpoint: batches over mutual TLS, a receipt an event, an inbox by long poll."""

import ssl
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from http import HTTPStatus
from itertools import accumulate
from tempfile import NamedTemporaryFile
from typing import Final

from process_cosmos_gateway.contract.cloud import BatchReceipt, InboxPage, ItemReceipt, ItemStatus
from process_cosmos_gateway.contract.codec import decode_json, parse
from process_cosmos_gateway.contract.destinations import DestinationKind, EventKind
from process_cosmos_gateway.contract.errors import Code, ContractError
from process_cosmos_gateway.contract.events import BATCH_CONTENT_TYPE
from process_cosmos_gateway.contract.session import Problem
from process_cosmos_gateway.outbox import Delivered, Parcel, Rejected, Verdict

from .destination import Down, Polled, Refused, Sent
from .exchange import Reply, exchange, open_session
from .statuses import Meaning

BATCH = 500
LONGEST_BODY = 1 << 20
"""Bytes of a batch, unless one event alone is longer."""

LONG_POLL_SECONDS = 25.0

_MALFORMED = Down(reason="malformed_reply")
_EXPIRED = Refused(reason="certificate_expired")


@dataclass(frozen=True, slots=True, kw_only=True)
class Credentials:
    """What enrolment gave: the site's key and certificate and the CA's certificate (PEM). ``repr`` shows no key."""

    key: str = field(repr=False)
    certificate: str
    ca: str
    expires_at: datetime

    def tls(self) -> ssl.SSLContext:
        """Return TLS that shows the site's certificate and trusts the enrolled CA alone. Blocks for a moment."""
        context = ssl.create_default_context(cadata=self.ca)
        # OpenSSL reads keys from files only: one of mode 0600 lives for as long as that takes.
        with NamedTemporaryFile("w", encoding="ascii") as file:
            file.write(self.key + self.certificate)
            file.flush()
            context.load_cert_chain(file.name)
        return context


class Cloud:
    """Sends batches by joining stored bytes."""

    kind: Final = DestinationKind.CLOUD

    def __init__(
        self,
        *,
        name: str,
        url: str,
        kinds: tuple[EventKind, ...],
        credentials: Credentials,
        tls: ssl.SSLContext,
        now: Callable[[], datetime],
    ) -> None:
        """Take the settings, TLS made of the credentials, and the wall clock, which says when they expire."""
        self.name = name
        self.address = url
        self.kinds = kinds
        self.batch = BATCH
        self._expires_at = credentials.expires_at
        self._now = now
        self._session = open_session(tls)

    async def send(self, parcels: Sequence[Parcel], *, proven: bool, token: str | None = None) -> Sent:
        """Send one batch; after a reply that blames no single event, the next one is half as long."""
        if self._now() >= self._expires_at:
            return Sent(trouble=_EXPIRED)
        parcels = fitting(parcels)
        reply = await exchange(
            self._session,
            "POST",
            f"{self.address}/v1/events",
            headers={"Content-Type": BATCH_CONTENT_TYPE},
            body=b"[" + b",\n".join([parcel.body for parcel in parcels]) + b"]",
        )
        if not isinstance(reply, Reply):
            if reply.reason == "timeout":  # a thin line: a shorter batch may pass in time
                self.batch = max(1, len(parcels) // 2)
            return Sent(trouble=reply)
        return self._understand(parcels, reply, proven=proven)

    def _understand(self, parcels: Sequence[Parcel], reply: Reply, *, proven: bool) -> Sent:
        match reply.meaning(single=len(parcels) == 1, proven=proven):
            case Meaning.DELIVERED if reply.status == HTTPStatus.CONFLICT:
                return Sent(verdicts=[(parcels[0], Delivered())])
            case Meaning.DELIVERED:
                return self._receipts(parcels, reply)
            case Meaning.SPLIT:
                self.batch = len(parcels) // 2
                return Sent()
            case Meaning.REJECTED:
                return Sent(verdicts=[(parcels[0], _rejection(reply))])
            case _:
                return Sent(trouble=reply.trouble)

    def _receipts(self, parcels: Sequence[Parcel], reply: Reply) -> Sent:
        """Match receipts with parcels; a reply that does not name each confirms nothing."""
        try:
            items = parse(BatchReceipt, decode_json(reply.body)).items
        except ContractError:
            return Sent(trouble=_MALFORMED)
        if [item.id for item in items] != [parcel.id for parcel in parcels]:
            return Sent(trouble=_MALFORMED)
        self.batch = min(BATCH, self.batch * 2)
        return Sent(verdicts=[(parcel, _verdict(item)) for parcel, item in zip(parcels, items, strict=True)])

    async def poll(self, after: int) -> Polled:
        """Ask for inbox items after a cursor; the endpoint holds the reply back until there is one, at most 25 s."""
        if self._now() >= self._expires_at:
            return Polled(trouble=_EXPIRED)
        url = f"{self.address}/v1/inbox?after={after}"
        reply = await exchange(self._session, "GET", url, extra_patience=LONG_POLL_SECONDS)
        if not isinstance(reply, Reply):
            return Polled(trouble=reply)
        if reply.meaning(single=True, proven=False) is not Meaning.DELIVERED:
            return Polled(trouble=reply.trouble)
        try:
            return Polled(items=parse(InboxPage, decode_json(reply.body)).items)
        except ContractError:
            return Polled(trouble=_MALFORMED)

    async def close(self) -> None:
        """End the connections."""
        await self._session.close()


def fitting(parcels: Sequence[Parcel]) -> Sequence[Parcel]:
    """Return the first of ``parcels`` that make a body of bearable length, at least one."""
    sizes = accumulate(len(parcel.body) + 2 for parcel in parcels)
    return parcels[: max(1, sum(size < LONGEST_BODY for size in sizes))]


def _verdict(item: ItemReceipt) -> Verdict:
    if item.status is not ItemStatus.REJECTED:
        return Delivered()
    problem = item.problem or Problem(code=Code.REFUSED_BY_DESTINATION, message="The endpoint gave no reason.")
    return Rejected(problem.code, problem.message)


def _rejection(reply: Reply) -> Rejected:
    return Rejected(Code.REFUSED_BY_DESTINATION, f"The endpoint replied {reply.status}.")
