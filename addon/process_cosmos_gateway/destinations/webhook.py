"""The webhook: any URL, one CloudEvent per POST."""

import asyncio
import logging
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Final
from urllib.parse import unquote

import orjson

from process_cosmos_gateway.contract.cloud import InboxItem
from process_cosmos_gateway.contract.codec import decode_json, parse
from process_cosmos_gateway.contract.destinations import DestinationKind, EventKind, Priority
from process_cosmos_gateway.contract.errors import Code, ContractError
from process_cosmos_gateway.contract.escalations import EscalationEvent
from process_cosmos_gateway.contract.events import CONTENT_TYPE, event_type
from process_cosmos_gateway.outbox import Delivered, Failed, Parcel, Rejected, Verdict

from .destination import Polled, Sent, Trouble
from .exchange import Reply, exchange, open_session, quote
from .statuses import Meaning

BATCH = 64
"""Events looked at to find some of different order keys."""

IN_FLIGHT = 8
"""Requests of one load, each of another order key: an alarm waits for one reply, not for a queue of them."""

ESCALATIONS = event_type("escalation").removesuffix("v1")
"""How the types of events about escalations begin."""

_SHORTEST_SECRET = 6
_WORDS = re.compile(rf"[^\s/?&=#:@,;\"']{{{_SHORTEST_SECRET},}}")

_LOGGER = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Answered:
    """A receiver's reply that answers the escalation at once."""

    answer: str


@dataclass(slots=True)
class _Load:
    """What is known so far of one load; the requests of its keys write into it."""

    verdicts: list[tuple[Parcel, Verdict]] = field(default_factory=list)
    answers: list[InboxItem] = field(default_factory=list)
    stop: Trouble | None = None
    """The link is in trouble."""
    failed: Trouble | None = None
    """Some event was not taken this time; the link itself may be well."""


class Webhook:
    """Posts each event to one URL; one request in flight per order key."""

    kind: Final = DestinationKind.WEBHOOK
    takes_all: Final = False
    batch: Final = BATCH

    def __init__(
        self, *, name: str, url: str, address: str, kinds: tuple[EventKind, ...], headers: Mapping[str, str]
    ) -> None:
        """Take the settings; ``url`` and ``headers`` are secrets."""
        self.name = name
        self.address = address
        self.kinds = kinds
        self._url = url
        self._headers = headers
        self._secrets = secret_words(url.removeprefix(address), *headers.values())
        self._session = open_session()

    async def send(
        self,
        parcels: Sequence[Parcel],
        *,
        proven: bool,
        token: str | None = None,  # noqa: ARG002 - the Protocol's
    ) -> Sent:
        """Post the first parcel of some keys, side by side."""
        load = _Load()
        async with asyncio.TaskGroup() as group:
            for parcel in islice(side_by_side(parcels), IN_FLIGHT):
                group.create_task(self._post(parcel, load, proven=proven))
        return _outcome(load)

    async def poll(self, after: int) -> Polled | None:  # noqa: ARG002 - the Protocol's
        """Return None: answers come in replies."""
        return None

    async def close(self) -> None:
        """End the connections."""
        await self._session.close()

    async def _post(self, parcel: Parcel, load: _Load, *, proven: bool) -> None:
        reply = await exchange(
            self._session,
            "POST",
            self._url,
            headers={
                **self._headers,
                "Content-Type": CONTENT_TYPE,
                "Idempotency-Key": idempotency_key(parcel.body),
            },
            body=parcel.body,
        )
        if not isinstance(reply, Reply):
            load.stop = reply
            return
        match reply.meaning(single=True, proven=proven):
            case Meaning.DELIVERED:
                load.verdicts.append((parcel, Delivered()))
                load.answers.extend(self._answers(parcel, reply))
            case Meaning.REJECTED:
                said = f"The receiver replied {reply.status}."
                verdict = Rejected(Code.REFUSED_BY_DESTINATION, said, quote(reply.body, self._secrets))
                load.verdicts.append((parcel, verdict))
            case Meaning.RETRY:
                self._note_failure(parcel, reply, load)
            case _:
                load.stop = reply.trouble

    def _note_failure(self, parcel: Parcel, reply: Reply, load: _Load) -> None:
        trouble = reply.trouble
        if reply.is_busy:
            load.stop = trouble
            return
        load.failed = trouble
        load.verdicts.append((parcel, Failed(trouble.reason, quote(reply.body, self._secrets))))

    def _answers(self, parcel: Parcel, reply: Reply) -> Sequence[InboxItem]:
        """Read ``{"answer": …}`` out of a reply; the item's id comes of the event's, so a repeat is the same answer."""
        if not parcel.type.startswith(ESCALATIONS) or reply.body.lstrip()[:1] != b"{":
            return ()
        try:
            document = decode_json(reply.body)
            if not isinstance(document, dict) or "answer" not in document:
                return ()
            answer = parse(Answered, document).answer
            about = parse(EscalationEvent, orjson.loads(parcel.body)["data"])
        except ContractError as error:
            _LOGGER.warning("%s: the reply to event %s has no answer that can be read: %s", self.name, parcel.id, error)
            return ()
        item = InboxItem(
            id=parcel.id,
            cursor=0,
            escalation=about.escalation,
            by=self.name,
            age=0.0,
            ring=about.ring,
            answer=answer,
        )
        return (item,)


def side_by_side(parcels: Sequence[Parcel]) -> Iterator[Parcel]:
    """Yield the first parcel of each key, in order.

    But no pack of readings behind what has to wait for its key: on a thin line it takes as long as many alarms.
    """
    keys: set[tuple[Priority, str]] = set()
    for place, parcel in enumerate(parcels):
        if parcel.priority is Priority.MEASUREMENT and len(keys) < place:
            return
        if (parcel.priority, parcel.key) not in keys:
            keys.add((parcel.priority, parcel.key))
            yield parcel


def idempotency_key(body: bytes) -> str:
    """Return ``source`` + ``id`` of an encoded event: what a receiver knows a repeat by."""
    event = orjson.loads(body)
    return f"{event['source']}/{event['id']}"


def _outcome(load: _Load) -> Sent:
    """Nothing but failures is the link's trouble too."""
    passed = any(isinstance(verdict, Delivered) for _, verdict in load.verdicts)
    trouble = load.stop or (None if passed else load.failed)
    return Sent(verdicts=load.verdicts, answers=load.answers, trouble=trouble)


def secret_words(*texts: str) -> frozenset[str]:
    """Return what of a URL's rest and of header values must not be shown if a receiver says it back."""
    words = (word for text in texts for form in (text, unquote(text)) for word in _WORDS.findall(form))
    return frozenset(words).union(text for text in texts if len(text) >= _SHORTEST_SECRET)
