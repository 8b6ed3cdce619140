"""What both ways of sending share: the health of the link, and how results reach the disk."""

import asyncio
import logging
from collections.abc import Callable
from functools import partial

from process_cosmos_gateway.clock import Clock
from process_cosmos_gateway.escalations import Escalations
from process_cosmos_gateway.logs import DESTINATION
from process_cosmos_gateway.outbox import Delivered, Outbox
from process_cosmos_gateway.store import Store

from . import settings
from .destination import Destination, Down, Sent, Trouble
from .link import Health

PROBE_SECONDS = 1.0
"""Between alarms of other keys that are tried while the link seems to be down."""

STORE_FAILED = Down(reason="store_failed")

_LOGGER = logging.getLogger(__name__)


class Sending:
    """The state of sending to one destination."""

    def __init__(
        self,
        destination: Destination,
        *,
        kept: settings.Kept,
        store: Store,
        outbox: Outbox,
        escalations: Escalations,
        clock: Clock,
        jitter_fn: Callable[[], float],
    ) -> None:
        """Take the destination, what the store knows of it, and the parts results go to."""
        self.destination = destination
        self.kept = kept
        self.store = store
        self.outbox = outbox
        self.escalations = escalations
        self.clock = clock
        self.jitter_fn = jitter_fn
        self.proven = kept.proven
        self.token = kept.token
        self.health = Health()
        self._on_change: Callable[[], None] = lambda: None
        self.retry = asyncio.Event()
        """Ends a pause of sending: polling works again, or a test was taken."""
        self.proof = asyncio.Event()
        """Ends a pause of polling: something was delivered, or a test was taken."""

    def on_change(self, changed_fn: Callable[[], None]) -> None:
        """Call ``changed_fn`` whenever the health is another."""
        self._on_change = changed_fn

    @property
    def name(self) -> str:
        """The destination's name, by which the outbox and the logs know it."""
        return self.destination.name

    async def record(self, sent: Sent) -> None:
        """Put on disk what was answered, then what was delivered: a crash between repeats the answer by its id."""
        if not sent.verdicts:
            return
        if sent.answers:
            await self.store.write(lambda transaction: self.escalations.take(transaction, sent.answers, self.name))
        await self._settle(sent)
        if any(isinstance(verdict, Delivered) for _, verdict in sent.verdicts):
            await self.note_proven()
            self.worked()

    async def _settle(self, sent: Sent) -> None:
        """Write down what became of a load; its token counts from then on."""
        token = sent.token
        if token is None:
            await self.outbox.settle(self.name, sent.verdicts)
            return
        note = partial(settings.note_token, name=self.name, token=token)
        await self.outbox.settle(self.name, sent.verdicts, also=note)
        self.token = token

    async def note_proven(self) -> None:
        """Remember that the destination took something."""
        if not self.proven:
            await self.store.write(lambda transaction: settings.note_proven(transaction, self.name))
            self.proven = True

    def worked(self) -> None:
        """Note proof that the link works."""
        self._become(self.health.worked(self.clock.monotonic()))
        self.proof.set()

    def failed(self, trouble: Trouble) -> float:
        """Note that the link does not work; return the seconds until the next try."""
        self._become(self.health.failed(trouble))
        return self.health.wait(self.jitter_fn())

    def _become(self, health: Health) -> None:
        self.health = logged(self.name, "sending", self.health, health)
        self._on_change()


def logged(name: str, work: str, before: Health, after: Health) -> Health:
    """Return ``after``, and log it if it is another state than ``before``."""
    if (before.state, before.reason) != (after.state, after.reason):
        state = after.state if after.reason is None else f"{after.state}: {after.reason}"
        _LOGGER.info("%s, %s: %s", name, work, state, extra={DESTINATION: name})
    return after
