"""The delivery worker of one destination: sends queued events and polls the inbox."""

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
from .delivery_state import STORE_FAILED, DeliveryState
from .destination import Polled, Refused, Trouble
from .inbox import PollPace
from .parallel_sender import ParallelSender

LONGEST_DETAIL = 200
"""Characters of a receiver's text that a link shows."""

_POLL_EVERY = 1.0
_LOGGER = logging.getLogger(__name__)


class DeliveryWorker:
    """Runs one destination until cancelled; what it must not lose is on disk."""

    def __init__(self, state: DeliveryState) -> None:
        """Run the destination of ``state``."""
        self._state = state
        self._destination = state.destination
        self._inbox_cursor = state.stored.inbox_cursor

    def link(self) -> Link:
        """Return the state of the link, without secrets."""
        health, described = self._state.link, self._state.stored.settings
        now, last = self._state.clock.monotonic(), health.last_contact
        return Link(
            name=described.name,
            label=described.label,
            kind=described.kind,
            address=described.address,
            kinds=described.kinds,
            state=health.state,
            state_age=now - self._state.state_since,
            reason=health.reason,
            detail=health.detail and health.detail[:LONGEST_DETAIL],
            last_contact_age=None if last is None else now - last,
        )

    async def run(self) -> None:
        """Send events and poll the inbox until cancelled."""
        sender = BatchSender(self._state) if self._destination.accepts_batches else ParallelSender(self._state)
        async with asyncio.TaskGroup() as group:
            group.create_task(sender.run(), name=f"send to {self._state.name}")
            group.create_task(self._poll_forever(), name=f"poll {self._state.name}")

    async def resume_after_test(self, tested: settings.Settings) -> None:
        """End the pauses of sending and polling, because a test with these settings succeeded."""
        # The settings may have been changed during the test, whose success then says nothing about these.
        if tested == self._state.stored.settings:
            await self._state.note_proven()
            self._state.resume_sending.set()
            self._state.resume_polling.set()

    async def close(self) -> None:
        """Close the connections, also of a worker that was cancelled before it ran."""
        await self._destination.close()

    async def _poll_forever(self) -> None:
        pace = PollPace()
        while True:
            await self._state.alerts.until_may_deliver()
            # ``resume_polling`` is cleared before the poll: a delivery during the poll must end the pause after it.
            began = self._state.clock.monotonic()
            self._state.resume_polling.clear()
            polled = await self._destination.poll(self._inbox_cursor)
            if polled is None:
                return
            trouble = polled.trouble or await self._store_page(polled)
            if trouble is not None:
                self._state.note_poll(trouble)
                await self._pause(trouble)
                continue
            if self._state.polling_health.failures:
                self._state.resume_sending.set()  # the endpoint is reachable again: send what is queued
            self._state.note_poll(None)
            pace = pace.after(len(polled.items), now=self._state.clock.monotonic())
            if seconds := pace.delay(now=self._state.clock.monotonic()):
                await asyncio.sleep(seconds)
            if polled.cursor is None:
                # An endpoint that replies to an empty poll at once must not be polled without a pause.
                await asyncio.sleep(_POLL_EVERY - (self._state.clock.monotonic() - began))

    async def _pause(self, trouble: Trouble) -> None:
        """Wait for the next poll. After a refusal wait as after a failure, then longer, until an event is delivered."""
        jitter = self._state.jitter_fn()
        longest = self._state.polling_health.retry_delay(jitter)
        shortest = next_delay(self._state.polling_health.failures, jitter) if isinstance(trouble, Refused) else longest
        await asyncio.sleep(shortest)
        with suppress(TimeoutError):
            await asyncio.wait_for(self._state.resume_polling.wait(), longest - shortest)

    async def _store_page(self, polled: Polled) -> Trouble | None:
        """Store the items together with the cursor; leave them for the next poll while deliveries are held back."""
        cursor = polled.cursor
        if cursor is None or not self._state.alerts.may_deliver():
            return None
        try:
            stored = await self._state.store.write(
                lambda transaction: self._store_items(transaction, polled.items, cursor)
            )
        except StoreError:
            _LOGGER.exception("%s: inbox items could not be stored; they are fetched again", self._state.name)
            return STORE_FAILED
        if stored:
            # After the commit: with a cursor that was not stored, the next poll would skip items that were not stored.
            self._inbox_cursor = cursor
        return None

    def _store_items(self, transaction: Transaction, items: Sequence[InboxItem], cursor: int) -> bool:
        """Store a page; return False and leave it in the inbox while too many answers wait for Home Assistant."""
        if items and not self._state.alerts.has_room(transaction):
            _LOGGER.warning(
                "%s: too many answers wait for Home Assistant; later ones stay in the inbox", self._state.name
            )
            return False
        self._state.alerts.add_proposals(transaction, items, self._state.name)
        # One transaction with the items: a crash fetches both again, and the items' ids recognise a repeat.
        settings.store_inbox_cursor(transaction, self._state.name, cursor)
        return True
