"""The webhook: one CloudEvent per POST to any URL."""

import logging
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final
from urllib.parse import unquote

import orjson

from process_cosmos_gateway.contract.alerts import AlertEvent
from process_cosmos_gateway.contract.cloud import InboxItem
from process_cosmos_gateway.contract.codec import decode_json, parse
from process_cosmos_gateway.contract.errors import Code, ContractError
from process_cosmos_gateway.contract.events import CONTENT_TYPE, event_type
from process_cosmos_gateway.outbox import Delivered, Delivery, Rejected

from .confirmation import body_digest
from .destination import Polled, ProbeResult, Sent, Trouble
from .failure_cause import MOST_IN_FLIGHT
from .http_request import Reply, ReplySource, open_session, send_request
from .http_statuses import Meaning
from .inbox import check_item
from .settings import WebhookSettings

BATCH = 64
"""Events fetched to find some with different order keys."""

ALERTS = event_type("alert").removesuffix("v1")
"""The prefix of the types of alert events."""

_SHORTEST_SECRET = 6
_WORDS = re.compile(rf"[^\s/?&=#:@,;\"']{{{_SHORTEST_SECRET},}}")

_LOGGER = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class AnswerReply:
    """The answer to an alert in a receiver's reply."""

    answer: str


class Webhook:
    """Posts each event to one URL."""

    accepts_batches: Final = False
    batch: Final = BATCH

    def __init__(self, settings: WebhookSettings) -> None:
        """Post to the URL in ``settings``."""
        self._name = settings.name
        self._url = settings.url
        self._headers = settings.headers
        self._source = ReplySource(
            verified=settings.url.lower().startswith("https:"),
            approved=settings.approved,
            secrets=find_secrets(self._url.removeprefix(settings.address), *settings.headers.values()),
        )
        self._session = open_session(connections=MOST_IN_FLIGHT)

    async def send(
        self,
        deliveries: Sequence[Delivery],
        *,
        proven: bool,
        token: str | None,  # noqa: ARG002 - the Protocol's
    ) -> Sent:
        """Post the one event of ``deliveries``; return the meaning of the receiver's reply."""
        [delivery] = deliveries
        reply = await self._post(delivery.body)
        if not isinstance(reply, Reply):
            return Sent(trouble=reply)
        match reply.meaning(single=True, proven=proven):
            case Meaning.DELIVERED:
                return Sent(results=[(delivery, Delivered())], answers=self._parse_answers(delivery, reply))
            case Meaning.REJECTED:
                said = f"The receiver replied {reply.status}."
                return Sent(results=[(delivery, Rejected(Code.REFUSED_BY_DESTINATION, said, reply.quote()))])
            case _:
                return Sent(trouble=reply.trouble)

    async def probe(self, event: bytes) -> ProbeResult:
        """Post a test event; a reply to it means the same as to any other event."""
        reply = await self._post(event)
        if not isinstance(reply, Reply):
            return ProbeResult(delivered=False, reason=reply.reason)
        meaning = reply.meaning(single=True, proven=True)
        reason = Code.REFUSED_BY_DESTINATION if meaning is Meaning.REJECTED else reply.trouble.reason
        return ProbeResult(
            delivered=meaning is Meaning.DELIVERED,
            reason=None if meaning is Meaning.DELIVERED else reason,
            status=reply.status,
            reply=reply.quote(),
            digest=body_digest(reply.body) if meaning is Meaning.REFUSED and reply.is_success else None,
        )

    async def poll(self, after: int) -> Polled | None:  # noqa: ARG002 - the Protocol's
        """Return None: a webhook's answers come in replies."""
        return None

    async def close(self) -> None:
        """Close all connections to the receiver."""
        await self._session.close()

    async def _post(self, event: bytes) -> Reply | Trouble:
        headers = {**self._headers, "Content-Type": CONTENT_TYPE, "Idempotency-Key": idempotency_key(event)}
        return await send_request(self._session, "POST", self._url, headers=headers, body=event, source=self._source)

    def _parse_answers(self, delivery: Delivery, reply: Reply) -> Sequence[InboxItem]:
        """Parse ``{"answer": …}`` in a reply; the item has the event's id, so that a repeated reply counts once."""
        if not delivery.type.startswith(ALERTS) or reply.body.lstrip()[:1] != b"{":
            return ()
        try:
            document = decode_json(reply.body)
            if not isinstance(document, dict) or "answer" not in document:
                return ()
            answer = parse(AnswerReply, document).answer
            about = parse(AlertEvent, orjson.loads(delivery.body)["data"])
            item = InboxItem(
                id=delivery.id,
                cursor=0,
                alert=about.alert,
                by=self._name,
                age=0.0,
                revision=about.revision,
                answer=answer,
            )
            return (check_item(item),)
        except ContractError as error:
            _LOGGER.warning(
                "%s: the answer in the reply to event %s is invalid and was ignored: %s", self._name, delivery.id, error
            )
            return ()


def idempotency_key(body: bytes) -> str:
    """Return ``source`` + ``id`` of an encoded event, by which a receiver recognises a repeat."""
    event = orjson.loads(body)
    return f"{event['source']}/{event['id']}"


def find_secrets(*texts: str) -> frozenset[str]:
    """Return the parts of a URL's path and of header values that must be masked in a receiver's text."""
    # Both forms: a receiver may quote the URL as it was sent or decoded.
    words = (word for text in texts for form in (text, unquote(text)) for word in _WORDS.findall(form))
    return frozenset(words).union(text for text in texts if len(text) >= _SHORTEST_SECRET)
