"""The state shared by sending to and polling one destination: health of the link, and settlement of results."""

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

from process_cosmos_gateway.alerts import Alerts
from process_cosmos_gateway.clock import Clock
from process_cosmos_gateway.logs import DESTINATION
from process_cosmos_gateway.outbox import Delivered, Outbox
from process_cosmos_gateway.store import Store

from . import settings
from .destination import Destination, Down, Sent, Trouble
from .link import LinkHealth, combine_health

PROBE_SECONDS = 1.0
"""Seconds between urgent events of other keys that are tried while the link seems to be down."""

STORE_FAILED = Down(reason="store_failed")

_LOGGER = logging.getLogger(__name__)


@dataclass(kw_only=True, eq=False)
class DeliveryState:
    """The state of the link to one destination, shared by its sender and its poller; settles delivery results.

    ``stored``: its state at the start; ``jitter_fn`` returns a number in [0, 1]; ``on_change`` is called after each
    attempt to send or poll.
    """

    destination: Destination
    stored: settings.StoredDestination
    store: Store
    outbox: Outbox
    alerts: Alerts
    clock: Clock
    jitter_fn: Callable[[], float]
    on_change: Callable[[], None] = lambda: None
    sending_health: LinkHealth = field(default_factory=LinkHealth)
    polling_health: LinkHealth = field(default_factory=LinkHealth)
    resume_sending: asyncio.Event = field(default_factory=asyncio.Event)
    """Ends a pause of sending: polling works again, or a test succeeded."""
    resume_polling: asyncio.Event = field(default_factory=asyncio.Event)
    """Ends a pause of polling: an event was delivered, or a test succeeded."""

    def __post_init__(self) -> None:
        """Begin with the stored proof and token."""
        self.proven = self.stored.proven
        self.token = self.stored.token
        self._is_token_uncertain = False
        self.state_since = self.clock.monotonic()
        """Monotonic time since which the whole link has been in its state."""

    @property
    def name(self) -> str:
        """The destination's identifier in the outbox and in logs."""
        return self.stored.settings.name

    @property
    def link(self) -> LinkHealth:
        """The combined health of sending and polling."""
        return combine_health(self.sending_health, self.polling_health)

    async def record(self, sent: Sent) -> None:
        """Store the answers in replies, then settle the events: a crash in between repeats the answer, under its id."""
        if not sent.results:
            return
        if sent.answers:
            await self.store.write(lambda transaction: self.alerts.add_proposals(transaction, sent.answers, self.name))
        await self._settle(sent)
        if any(isinstance(result, Delivered) for _, result in sent.results):
            await self.note_proven()
            self.note_success()

    async def _settle(self, sent: Sent) -> None:
        """Settle events; the batch's token is stored in the same transaction and presented from then on."""
        token = sent.token
        if token is None:
            await self.outbox.settle(self.name, sent.results)
            return
        note = partial(settings.store_token, name=self.name, token=token)
        self._is_token_uncertain = True
        await self.outbox.settle(self.name, sent.results, also=note)
        # After the commit: if the settlement fails, the batch is repeated with the token that is stored.
        self.token, self._is_token_uncertain = token, False

    async def ensure_token_stored(self) -> None:
        """Store the token to present again if its settlement failed; raise ``StoreError`` if the store still fails.

        A commit that failed may be on disk nevertheless, with the next token. If this process presented the older token
        and ended, the next one would present a token that the endpoint has forgotten, and count as a second gateway.
        """
        if self._is_token_uncertain:
            await self.store.write(partial(settings.store_token, name=self.name, token=self.token))
            self._is_token_uncertain = False

    async def note_proven(self) -> None:
        """Store that the destination accepted an event."""
        if not self.proven:
            await self.store.write(lambda transaction: settings.store_proven(transaction, self.name))
            self.proven = True

    def note_success(self) -> None:
        """Record a success of sending."""
        self._update_health(sending=self.sending_health.succeeded(self.clock.monotonic()))
        self.resume_polling.set()

    def note_failure(self, trouble: Trouble) -> float:
        """Record a failure of sending; return the seconds until the next attempt."""
        self._update_health(sending=self.sending_health.failed(trouble))
        return self.sending_health.retry_delay(self.jitter_fn())

    def note_poll(self, trouble: Trouble | None) -> None:
        """Record the outcome of a poll; ``trouble`` None: it succeeded."""
        now = self.clock.monotonic()
        self._update_health(
            polling=self.polling_health.succeeded(now) if trouble is None else self.polling_health.failed(trouble)
        )

    def _update_health(self, *, sending: LinkHealth | None = None, polling: LinkHealth | None = None) -> None:
        before = self.link.state
        self.sending_health = log_health_change(
            self.name, "sending", self.sending_health, sending or self.sending_health
        )
        self.polling_health = log_health_change(
            self.name, "polling", self.polling_health, polling or self.polling_health
        )
        if self.link.state is not before:
            self.state_since = self.clock.monotonic()
        self.on_change()


def log_health_change(name: str, work: str, before: LinkHealth, after: LinkHealth) -> LinkHealth:
    """Return ``after``; log it if its state or reason differs from ``before``."""
    if (before.state, before.reason) != (after.state, after.reason):
        state = after.state if after.reason is None else f"{after.state}: {after.reason}"
        _LOGGER.info("%s, %s: %s", name, work, state, extra={DESTINATION: name})
    return after
