"""The pump of one destination: sends what the outbox has for it, and polls its inbox."""

import asyncio
import logging
from collections.abc import Sequence
from contextlib import suppress

from process_cosmos_gateway.contract.cloud import InboxItem
from process_cosmos_gateway.contract.destinations import Link
from process_cosmos_gateway.errors import StoreError
from process_cosmos_gateway.store import Transaction

from . import settings
from .backoff import next_delay
from .batch_sender import BatchSender
from .delivery_state import STORE_FAILED, Sending
from .destination import Polled, Refused, Trouble
from .inbox import Pace
from .parallel_sender import ParallelSender

LONGEST_DETAIL = 200
"""Characters of what a far side said that a link shows."""

_POLL_EVERY = 1.0
_LOGGER = logging.getLogger(__name__)


class DeliveryWorker:
    """Runs one destination until it is cancelled; what it is worth is on disk before it is forgotten here."""

    def __init__(self, sending: Sending) -> None:
        """Take the state of the destination; the inbox is polled beside it, with the same parts."""
        self._sending = sending
        self._destination = sending.destination
        self._settings = sending.kept.settings
        self._inbox_cursor = sending.kept.inbox_cursor
        self._store = sending.store
        self._alerts = sending.alerts
        self._clock = sending.clock
        self._jitter_fn = sending.jitter_fn

    def link(self) -> Link:
        """Return how the link stands, without secrets."""
        health = self._sending.link
        now, last = self._clock.monotonic(), health.last_contact
        return Link(
            name=self._destination.name,
            label=self._destination.label,
            kind=self._destination.kind,
            address=self._destination.address,
            kinds=self._destination.kinds,
            state=health.state,
            state_age=now - self._sending.since,
            reason=health.reason,
            detail=health.detail and health.detail[:LONGEST_DETAIL],
            last_contact_age=None if last is None else now - last,
        )

    async def run(self) -> None:
        """Send and poll until cancelled."""
        sender = BatchSender(self._sending) if self._destination.takes_all else ParallelSender(self._sending)
        async with asyncio.TaskGroup() as group:
            group.create_task(sender.run(), name=f"send to {self._destination.name}")
            group.create_task(self._poll_for_ever(), name=f"poll {self._destination.name}")

    async def proven_by_test(self, tested: settings.Settings) -> None:
        """Try at once what waits, because a test with these settings was taken."""
        if tested == self._settings:
            await self._sending.note_proven()
            self._sending.retry.set()
            self._sending.proof.set()

    async def close(self) -> None:
        """End the connections, also of a pump that was cancelled before it ran."""
        await self._destination.close()

    async def _poll_for_ever(self) -> None:
        pace = Pace()
        while True:
            await self._alerts.until_may_deliver()
            began = self._clock.monotonic()
            self._sending.proof.clear()
            polled = await self._destination.poll(self._inbox_cursor)
            if polled is None:
                return
            trouble = polled.trouble or await self._take(polled)
            if trouble is not None:
                self._sending.polled(trouble)
                await self._pause(trouble)
                continue
            if self._sending.polling.failures:
                self._sending.retry.set()  # the way is free again: what waits to be sent need not wait on
            self._sending.polled(None)
            pace = pace.after(len(polled.items), now=self._clock.monotonic())
            if seconds := pace.wait(now=self._clock.monotonic()):
                await asyncio.sleep(seconds)
            if polled.cursor is None:
                # An endpoint that does not hold an empty reply back must not be asked without a pause.
                await asyncio.sleep(_POLL_EVERY - (self._clock.monotonic() - began))

    async def _pause(self, trouble: Trouble) -> None:
        """Wait for the next poll; after a refusal only as if the link were down, if something sent is delivered."""
        jitter = self._jitter_fn()
        longest = self._sending.polling.wait(jitter)
        shortest = next_delay(self._sending.polling.failures, jitter) if isinstance(trouble, Refused) else longest
        await asyncio.sleep(shortest)
        with suppress(TimeoutError):
            await asyncio.wait_for(self._sending.proof.wait(), longest - shortest)

    async def _take(self, polled: Polled) -> Trouble | None:
        """Put the items on disk together with the cursor; leave them for the next poll while the gate is closed."""
        cursor = polled.cursor
        if cursor is None or not self._alerts.may_deliver():
            return None
        try:
            taken = await self._store.write(lambda transaction: self._take_items(transaction, polled.items, cursor))
        except StoreError:
            _LOGGER.exception("%s: inbox items could not be taken; they are fetched again", self._destination.name)
            return STORE_FAILED
        if taken:
            self._inbox_cursor = cursor
        return None

    def _take_items(self, transaction: Transaction, items: Sequence[InboxItem], cursor: int) -> bool:
        """Take a page; return False, and leave it in the inbox, while too many wait for Home Assistant."""
        if items and not self._alerts.has_room(transaction):
            _LOGGER.warning(
                "%s: too many answers wait for Home Assistant; more stay in the inbox", self._destination.name
            )
            return False
        self._alerts.add_proposals(transaction, items, self._destination.name)
        settings.note_inbox(transaction, self._destination.name, cursor)
        return True
