"""What sending and polling share: the health of the link, and how results reach the disk."""

import asyncio
import logging
from collections.abc import Callable
from functools import partial

from process_cosmos_gateway.alerts import Alerts
from process_cosmos_gateway.clock import Clock
from process_cosmos_gateway.logs import DESTINATION
from process_cosmos_gateway.outbox import Delivered, Outbox
from process_cosmos_gateway.store import Store

from . import settings
from .destination import Destination, Down, Sent, Trouble
from .link import Health, together

PROBE_SECONDS = 1.0
"""Between alarms of other keys that are tried while the link seems to be down."""

STORE_FAILED = Down(reason="store_failed")

_LOGGER = logging.getLogger(__name__)


class Sending:
    """The state of the link to one destination, for what sends and what polls; settles what was sent."""

    def __init__(
        self,
        destination: Destination,
        *,
        kept: settings.Kept,
        store: Store,
        outbox: Outbox,
        alerts: Alerts,
        clock: Clock,
        jitter_fn: Callable[[], float],
    ) -> None:
        """Take the destination, what the store knows of it, and the parts results go to."""
        self.destination = destination
        self.kept = kept
        self.store = store
        self.outbox = outbox
        self.alerts = alerts
        self.clock = clock
        self.jitter_fn = jitter_fn
        self.proven = kept.proven
        self.token = kept.token
        self.health = self.polling = Health()
        self.since = clock.monotonic()
        """Monotonic time from which the whole link has been in its state."""
        self.retry = asyncio.Event()
        """Ends a pause of sending: polling works again, or a test was taken."""
        self.proof = asyncio.Event()
        """Ends a pause of polling: something was delivered, or a test was taken."""

    @property
    def name(self) -> str:
        """The destination's name, by which the outbox and the logs know it."""
        return self.destination.name

    @property
    def link(self) -> Health:
        """The health of the whole link, sending and polling."""
        return together(self.health, self.polling)

    async def record(self, sent: Sent) -> None:
        """Put on disk what was answered, then what was delivered: a crash between repeats the answer by its id."""
        if not sent.results:
            return
        if sent.answers:
            await self.store.write(lambda transaction: self.alerts.add_proposals(transaction, sent.answers, self.name))
        await self._settle(sent)
        if any(isinstance(result, Delivered) for _, result in sent.results):
            await self.note_proven()
            self.worked()

    async def _settle(self, sent: Sent) -> None:
        """Write down what became of a load; its token counts from then on."""
        token = sent.token
        if token is None:
            await self.outbox.settle(self.name, sent.results)
            return
        note = partial(settings.note_token, name=self.name, token=token)
        await self.outbox.settle(self.name, sent.results, also=note)
        self.token = token

    async def note_proven(self) -> None:
        """Remember that the destination took something."""
        if not self.proven:
            await self.store.write(lambda transaction: settings.note_proven(transaction, self.name))
            self.proven = True

    def worked(self) -> None:
        """Note proof that the link works."""
        self._become(sending=self.health.worked(self.clock.monotonic()))
        self.proof.set()

    def failed(self, trouble: Trouble) -> float:
        """Note that the link does not work; return the seconds until the next try."""
        self._become(sending=self.health.failed(trouble))
        return self.health.wait(self.jitter_fn())

    def polled(self, trouble: Trouble | None) -> None:
        """Note what a poll came to."""
        now = self.clock.monotonic()
        self._become(polling=self.polling.worked(now) if trouble is None else self.polling.failed(trouble))

    def _become(self, *, sending: Health | None = None, polling: Health | None = None) -> None:
        before = self.link.state
        self.health = logged(self.name, "sending", self.health, sending or self.health)
        self.polling = logged(self.name, "polling", self.polling, polling or self.polling)
        if self.link.state is not before:
            self.since = self.clock.monotonic()


def logged(name: str, work: str, before: Health, after: Health) -> Health:
    """Return ``after``, and log it if it is another state than ``before``."""
    if (before.state, before.reason) != (after.state, after.reason):
        state = after.state if after.reason is None else f"{after.state}: {after.reason}"
        _LOGGER.info("%s, %s: %s", name, work, state, extra={DESTINATION: name})
    return after
