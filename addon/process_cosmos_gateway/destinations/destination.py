"""The interface of destinations to the delivery worker, and the results they return."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from process_cosmos_gateway.contract.cloud import InboxItem
from process_cosmos_gateway.outbox import Delivery, DeliveryResult


@dataclass(frozen=True, slots=True, kw_only=True)
class Down:
    """The receiver cannot be reached or is busy. It is tried again soon, at the earliest after ``retry_after`` seconds.

    ``event_suspected``: the receiver got something to read, so the event itself may have caused the failure.
    ``detail``: the receiver's text, without secrets.
    """

    reason: str
    retry_after: float | None = None
    event_suspected: bool = False
    detail: str | None = None


MALFORMED_REPLY = Down(reason="malformed_reply")
"""A reply in an unknown format, which confirms nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Refused:
    """The receiver refuses all events until a person changes something; every event is kept.

    ``event_suspected``, ``detail``: as in ``Down``.
    """

    reason: str
    event_suspected: bool = False
    detail: str | None = None


type Trouble = Down | Refused
"""A failure of a link. ``reason``: a stable code from docs/errors.md."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sent:
    """The outcome of sending events: results per event, answers in the reply, failure of the link.

    ``token``: stored in the transaction that settles the results, and presented with the next batch.
    """

    results: Sequence[tuple[Delivery, DeliveryResult]] = ()
    answers: Sequence[InboxItem] = ()
    trouble: Trouble | None = None
    token: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Polled:
    """The outcome of polling the inbox, oldest item first.

    ``cursor``: position after the last item; None if there was nothing, 0 if the inbox must be read from its beginning.
    """

    items: Sequence[InboxItem] = ()
    cursor: int | None = None
    trouble: Trouble | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ProbeResult:
    """The outcome of a test; its fields are those of ``DestinationTested``."""

    delivered: bool
    reason: str | None = None
    status: int | None = None
    reply: str | None = None
    digest: str | None = None


class Destination(Protocol):
    """One receiver of events."""

    @property
    def batch(self) -> int:
        """The greatest number of events to pass to ``send`` at present."""

    @property
    def accepts_batches(self) -> bool:
        """Whether a request carries many events; if not, each request carries one, with keys in parallel."""

    async def send(self, deliveries: Sequence[Delivery], *, proven: bool, token: str | None) -> Sent:
        """Send events, in order within each key; only one if the destination does not accept batches. Never raises.

        ``proven``: an event was delivered since the destination was set up. ``token``: from the newest batch that is
        settled on disk, or being settled while this one is sent.
        """

    async def poll(self, after: int) -> Polled | None:
        """Wait for inbox items after a cursor; return None if this kind of destination has no inbox. Never raises."""

    async def probe(self, event: bytes) -> ProbeResult:
        """Test at once, bypassing the queue, whether events would be accepted. Never raises.

        ``event``: an encoded test event, which the receiver should discard.
        """

    async def close(self) -> None:
        """Close all connections to the receiver; no other method may be called afterwards."""
