"""Sends load after load to a destination that takes many events at once."""

import asyncio
import logging
from collections.abc import Sequence

from process_cosmos_gateway.contract.destinations import Priority
from process_cosmos_gateway.errors import StoreError
from process_cosmos_gateway.outbox import Delivered, Delivery

from .delivery_state import PROBE_SECONDS, STORE_FAILED, Sending
from .destination import Refused, Sent, Trouble

_LOGGER = logging.getLogger(__name__)


class BatchSender:
    """Has one load on its way at a time."""

    def __init__(self, sending: Sending) -> None:
        """Send to the destination of ``sending``, which takes all (``takes_all``)."""
        self._sending = sending
        self._destination = sending.destination
        self._outbox = sending.outbox
        self._newest_seen = 0
        """The greatest sequence of an alarm that waited when a load was refused."""

    async def run(self) -> None:
        """Send load after load; pause, longer each time, while the endpoint is away. Ends only by cancellation."""
        while True:
            await self._sending.alerts.until_may_deliver()
            try:
                trouble = await self._send_all()
            except* StoreError:
                _LOGGER.exception("%s: what was sent could not be settled; it is sent again", self._sending.name)
                trouble = STORE_FAILED
            if trouble is not None:
                await self._pause(self._sending.failed(trouble), trouble)

    async def _send_all(self) -> Trouble | None:
        """Send load after load, or wait for news; return what is wrong with the link.

        Each load is settled while the one after it, which was drawn meanwhile, is on its way. So that there is one
        such load only where all before it has arrived, order is kept; a crash repeats two loads instead of one.
        """
        name = self._sending.name
        deliveries = await self._outbox.deliveries(name, self._destination.batch)
        if not deliveries:
            await self._outbox.wait_for_events(name)
            return None
        self._sending.retry.clear()
        before: Sequence[Delivery] = ()
        sent, token = Sent(), self._sending.token
        while deliveries:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._sending.record(sent))
                drawing = group.create_task(self._following(before, deliveries))
                sending = group.create_task(
                    self._destination.send(deliveries, proven=self._sending.proven, token=token)
                )
            sent = sending.result()
            token = sent.token or token
            before, deliveries = deliveries, drawing.result() if self._may_follow(deliveries, sent) else ()
        await self._sending.record(sent)
        if isinstance(sent.trouble, Refused):
            self._newest_seen = max(self._newest_seen, _newest_untried(before))
        if sent.trouble is not None:
            await self._outbox.mark_unreachable(name)
        return sent.trouble

    async def _following(self, before: Sequence[Delivery], deliveries: Sequence[Delivery]) -> Sequence[Delivery]:
        if len(deliveries) < self._destination.batch:
            return ()
        return await self._outbox.prefetch(self._sending.name, self._destination.batch, [*before, *deliveries])

    def _may_follow(self, deliveries: Sequence[Delivery], sent: Sent) -> bool:
        arrived = sum(isinstance(result, Delivered) for _, result in sent.results)
        return arrived == len(deliveries) and sent.trouble is None and self._sending.alerts.may_deliver()

    async def _pause(self, seconds: float, trouble: Trouble) -> None:
        """Wait until a try is due or wanted; or, if the failure may be the events' own, an untried alarm waits."""
        waits: list[asyncio.Task[object]] = [asyncio.create_task(self._sending.retry.wait())]
        if trouble.of_event:
            # What was refused is not tried one by one: only an alarm that is new may find the endpoint as it should be.
            after = self._newest_seen if isinstance(trouble, Refused) else 0
            waits.append(asyncio.create_task(self._until_untried_alarm(after)))
        try:
            await asyncio.wait(waits, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()
            await asyncio.gather(*waits, return_exceptions=True)

    async def _until_untried_alarm(self, after: int) -> None:
        """Return when an alarm waits that has not failed and has a sequence greater than ``after``."""
        newest = 0
        while newest <= after:
            await asyncio.sleep(PROBE_SECONDS)
            deliveries = await self._outbox.deliveries(
                self._sending.name, self._destination.batch, priorities=[Priority.URGENT]
            )
            newest = _newest_untried(deliveries)
        self._newest_seen = max(self._newest_seen, newest)


def _newest_untried(deliveries: Sequence[Delivery]) -> int:
    """Return the sequence of the newest alarm that has not failed; 0: there is none."""
    alarms = (each.sequence for each in deliveries if each.priority is Priority.URGENT and not each.attempts)
    return max(alarms, default=0)
