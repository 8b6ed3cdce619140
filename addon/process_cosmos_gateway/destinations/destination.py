"""What every kind of destination is to the pump."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from process_cosmos_gateway.contract.cloud import InboxItem
from process_cosmos_gateway.contract.destinations import DestinationKind, EventKind
from process_cosmos_gateway.outbox import Delivery, DeliveryResult


@dataclass(frozen=True, slots=True, kw_only=True)
class Down:
    """The far side cannot be reached or is busy: tried again soon, at the earliest after ``retry_after`` seconds.

    ``of_event``: it got something to read, so that this may be the event's fault and no other's. ``detail``: what it
    said, without secrets.
    """

    reason: str
    retry_after: float | None = None
    of_event: bool = False
    detail: str | None = None


MALFORMED_REPLY = Down(reason="malformed_reply")
"""It replied something else than is understood, so nothing is confirmed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Refused:
    """The far side wants none of it until a person has changed something; everything is kept.

    ``of_event``, ``detail``: as in ``Down``.
    """

    reason: str
    of_event: bool = False
    detail: str | None = None


type Trouble = Down | Refused
"""What is wrong with a link. ``reason``: a stable word of docs/errors.md."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sent:
    """What became of a load: a verdict where there is one, answers given in the reply, trouble with the link.

    ``token``: to be kept in the transaction that settles the verdicts, and presented with the next load.
    """

    results: Sequence[tuple[Delivery, DeliveryResult]] = ()
    answers: Sequence[InboxItem] = ()
    trouble: Trouble | None = None
    token: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Polled:
    """What a poll of the inbox brought, oldest first.

    ``cursor``: how far it goes, None: there was nothing, 0: it is to be read from its beginning.
    """

    items: Sequence[InboxItem] = ()
    cursor: int | None = None
    trouble: Trouble | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ProbeResult:
    """What a test event came to; the members are those of ``DestinationTested``."""

    delivered: bool
    reason: str | None = None
    status: int | None = None
    reply: str | None = None
    digest: str | None = None


class Destination(Protocol):
    """One far side."""

    @property
    def name(self) -> str:
        """What other parts of the site call it; never changes."""

    @property
    def label(self) -> str | None:
        """What people call it; None: by its name."""

    @property
    def kind(self) -> DestinationKind:
        """The protocol it speaks: webhook or cloud endpoint."""

    @property
    def address(self) -> str:
        """Scheme, host and port: the rest of a URL is a secret."""

    @property
    def kinds(self) -> tuple[EventKind, ...]:
        """What it subscribed to."""

    @property
    def batch(self) -> int:
        """The most parcels it takes at once, now."""

    @property
    def takes_all(self) -> bool:
        """Whether a load goes as a whole; else each event goes alone, and those of different keys side by side."""

    async def send(self, deliveries: Sequence[Delivery], *, proven: bool, token: str | None) -> Sent:
        """Send a load, in order per key; of a destination that does not take all, one event. Never raises.

        ``proven``: something got through since it was set up. ``token``: of the newest load that is settled on
        disk, or that is being settled while this one is on its way.
        """

    async def poll(self, after: int) -> Polled | None:
        """Wait for inbox items after a cursor; None: this kind has no inbox. Never raises."""

    async def probe(self, event: bytes) -> ProbeResult:
        """Find out at once, past the queue, whether events would be taken. Never raises.

        ``event``: an encoded test event, for a destination that throws it away.
        """

    async def close(self) -> None:
        """End its connections."""
