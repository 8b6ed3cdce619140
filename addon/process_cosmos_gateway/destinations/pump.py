"""The pump of one destination: takes parcels from the outbox, sends, settles, waits."""

import asyncio
import logging
from collections.abc import Callable, Sequence
from functools import partial

from process_cosmos_gateway.clock import Clock
from process_cosmos_gateway.contract.cloud import InboxItem
from process_cosmos_gateway.contract.destinations import Link
from process_cosmos_gateway.errors import StoreError
from process_cosmos_gateway.escalations import Escalations
from process_cosmos_gateway.outbox import Delivered, Outbox, Parcel
from process_cosmos_gateway.store import Store, Transaction

from . import settings
from .destination import Destination, Down, Polled, Sent, Trouble
from .link import Health, together

_POLL_EVERY = 1.0
_STORE_FAILED = Down(reason="store_failed")
_LOGGER = logging.getLogger(__name__)


class Pump:
    """Runs one destination until it is cancelled; what it is worth is on disk before it is forgotten here."""

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
        """Take the destination, what the store knows of it, and the parts it works with."""
        self._destination = destination
        self._proven = kept.proven
        self._inbox_cursor = kept.inbox_cursor
        self._token = kept.token
        self._store = store
        self._outbox = outbox
        self._escalations = escalations
        self._clock = clock
        self._jitter_fn = jitter_fn
        self._sending = Health()
        self._polling = Health()
        self._reachable = asyncio.Event()

    def link(self) -> Link:
        """Return how the link stands, without secrets."""
        health = together(self._sending, self._polling)
        last = health.last_contact
        return Link(
            name=self._destination.name,
            kind=self._destination.kind,
            address=self._destination.address,
            kinds=self._destination.kinds,
            state=health.state,
            reason=health.reason,
            last_contact_age=None if last is None else self._clock.monotonic() - last,
        )

    async def run(self) -> None:
        """Send and poll until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._send_for_ever(), name=f"send to {self._destination.name}")
            group.create_task(self._poll_for_ever(), name=f"poll {self._destination.name}")

    async def close(self) -> None:
        """End the connections, also of a pump that was cancelled before it ran."""
        await self._destination.close()

    async def _send_for_ever(self) -> None:
        while True:
            await self._escalations.until_may_drain()
            try:
                trouble = await self._send_all()
            except* StoreError:
                _LOGGER.exception("%s: what was sent could not be settled; it is sent again", self._destination.name)
                trouble = _STORE_FAILED
            if trouble is not None:
                self._sending = self._changed("sending", self._sending, self._sending.failed(trouble))
                await self._pause(self._sending.wait(self._jitter_fn()))

    async def _send_all(self) -> Trouble | None:
        """Send load after load, or wait for news; return what is wrong with the link.

        Each load is settled while the one after it, which was drawn meanwhile, is on its way. So that there is one
        such load only where all before it has arrived, order is kept; a crash repeats two loads instead of one.
        """
        name = self._destination.name
        parcels = await self._outbox.parcels(name, self._destination.batch)
        if not parcels:
            await self._outbox.wait(name)
            return None
        self._reachable.clear()
        before: Sequence[Parcel] = ()
        sent, token = Sent(), self._token
        while parcels:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._record(sent))
                drawing = group.create_task(self._following(before, parcels))
                sending = group.create_task(self._destination.send(parcels, proven=self._proven, token=token))
            sent = sending.result()
            token = sent.token or token
            before, parcels = parcels, drawing.result() if self._may_follow(parcels, sent) else ()
        await self._record(sent)
        if sent.trouble is not None:
            await self._outbox.link_down(name)
        return sent.trouble

    async def _following(self, before: Sequence[Parcel], parcels: Sequence[Parcel]) -> Sequence[Parcel]:
        if not self._destination.takes_all or len(parcels) < self._destination.batch:
            return ()
        return await self._outbox.following(self._destination.name, self._destination.batch, [*before, *parcels])

    def _may_follow(self, parcels: Sequence[Parcel], sent: Sent) -> bool:
        arrived = sum(isinstance(verdict, Delivered) for _, verdict in sent.verdicts)
        return arrived == len(parcels) and sent.trouble is None and self._escalations.may_drain()

    async def _record(self, sent: Sent) -> None:
        """Put on disk what was answered, then what was delivered: a crash between repeats the answer by its id."""
        if not sent.verdicts:
            return
        name = self._destination.name
        if sent.answers:
            await self._store.write(lambda transaction: self._escalations.take(transaction, sent.answers, name))
        await self._settle(sent)
        if not any(isinstance(verdict, Delivered) for _, verdict in sent.verdicts):
            return
        if not self._proven:
            await self._store.write(lambda transaction: settings.note_proven(transaction, name))
            self._proven = True
        self._sending = self._changed("sending", self._sending, self._sending.worked(self._clock.monotonic()))

    async def _settle(self, sent: Sent) -> None:
        """Write down what became of a load; its token counts from then on."""
        name, token = self._destination.name, sent.token
        if token is None:
            await self._outbox.settle(name, sent.verdicts)
            return
        note = partial(settings.note_token, name=name, token=token)
        await self._outbox.settle(name, sent.verdicts, also=note)
        self._token = token

    async def _poll_for_ever(self) -> None:
        while True:
            await self._escalations.until_may_drain()
            began = self._clock.monotonic()
            polled = await self._destination.poll(self._inbox_cursor)
            if polled is None:
                return
            trouble = polled.trouble or await self._take(polled)
            if trouble is not None:
                self._polling = self._changed("polling", self._polling, self._polling.failed(trouble))
                await asyncio.sleep(self._polling.wait(self._jitter_fn()))
                continue
            if self._polling.failures:
                self._reachable.set()  # the way is free again: what waits to be sent need not wait on
            self._polling = self._changed("polling", self._polling, self._polling.worked(self._clock.monotonic()))
            if polled.cursor is None:
                # An endpoint that does not hold an empty reply back must not be asked without a pause.
                await asyncio.sleep(_POLL_EVERY - (self._clock.monotonic() - began))

    async def _take(self, polled: Polled) -> Trouble | None:
        """Put the items on disk together with the cursor; leave them for the next poll while the gate is closed."""
        cursor = polled.cursor
        if cursor is None or not self._escalations.may_drain():
            return None
        try:
            await self._store.write(lambda transaction: self._take_items(transaction, polled.items, cursor))
        except StoreError:
            _LOGGER.exception("%s: inbox items could not be taken; they are fetched again", self._destination.name)
            return _STORE_FAILED
        self._inbox_cursor = cursor
        return None

    def _take_items(self, transaction: Transaction, items: Sequence[InboxItem], cursor: int) -> None:
        self._escalations.take(transaction, items, self._destination.name)
        settings.note_inbox(transaction, self._destination.name, cursor)

    async def _pause(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._reachable.wait()
        except TimeoutError:
            pass

    def _changed(self, work: str, before: Health, after: Health) -> Health:
        if (before.state, before.reason) != (after.state, after.reason):
            state = after.state if after.reason is None else f"{after.state}: {after.reason}"
            _LOGGER.info("%s, %s: %s", self._destination.name, work, state)
        return after
