"""The sender for destinations that accept many events in one request."""

import asyncio
import logging
from collections.abc import Sequence

from process_cosmos_gateway.contract.destinations import Priority
from process_cosmos_gateway.errors import StoreError
from process_cosmos_gateway.outbox import Delivered, Delivery

from .delivery_state import PROBE_SECONDS, STORE_FAILED, DeliveryState
from .destination import Refused, Sent, Trouble

_LOGGER = logging.getLogger(__name__)


class BatchSender:
    """Sends batches one after another."""

    def __init__(self, state: DeliveryState) -> None:
        """Send to the destination of ``state``, which accepts batches."""
        self._state = state
        self._destination = state.destination
        self._outbox = state.outbox
        self._newest_seen = 0
        """The greatest sequence of an urgent event that was waiting when a batch was refused."""

    async def run(self) -> None:
        """Send batches until cancelled; back off while the endpoint is down."""
        while True:
            await self._state.alerts.until_may_deliver()
            try:
                trouble = await self._send_all()
            # The settlement runs in a task group, which wraps its error; ``except*`` catches a bare one too.
            except* StoreError:
                _LOGGER.exception(
                    "%s: the delivery results could not be stored; the events are sent again", self._state.name
                )
                trouble = STORE_FAILED
            if trouble is not None:
                await self._pause(self._state.note_failure(trouble), trouble)

    async def _send_all(self) -> Trouble | None:
        """Send batches until the queue is empty or the link fails, or wait for events; return the link's failure.

        Each batch is settled while the next one, fetched meanwhile, is being sent. The next one is sent only if all
        events before it were delivered, which keeps the order. A crash therefore repeats up to two batches.
        """
        name = self._state.name
        deliveries = await self._outbox.deliveries(name, self._destination.batch)
        if not deliveries:
            await self._outbox.wait_for_events(name)
            return None
        await self._state.ensure_token_stored()
        # Cleared before sending: a poll or a test that succeeds meanwhile must end the pause after a failure.
        self._state.resume_sending.clear()
        before: Sequence[Delivery] = ()
        sent, token = Sent(), self._state.token
        while deliveries:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._state.record(sent))
                fetch_task = group.create_task(self._fetch_following(before, deliveries))
                send_task = group.create_task(
                    self._destination.send(deliveries, proven=self._state.proven, token=token)
                )
            sent = send_task.result()
            # Presented before its settlement is committed: after a crash the endpoint still knows the stored one.
            token = sent.token or token
            before, deliveries = deliveries, fetch_task.result() if self._may_follow(deliveries, sent) else ()
        # Also after a failure of the link: events whose results are known must not be sent again.
        await self._state.record(sent)
        if isinstance(sent.trouble, Refused):
            self._newest_seen = max(self._newest_seen, _newest_untried_urgent(before))
        if sent.trouble is not None:
            # Notification requests count as failed until delivered: an alert must not wait for a link that is down.
            await self._outbox.mark_unreachable(name)
        return sent.trouble

    async def _fetch_following(self, before: Sequence[Delivery], deliveries: Sequence[Delivery]) -> Sequence[Delivery]:
        # A batch below the limit had everything that may be sent: there is nothing to prefetch.
        if len(deliveries) < self._destination.batch:
            return ()
        return await self._outbox.prefetch(self._state.name, self._destination.batch, [*before, *deliveries])

    def _may_follow(self, deliveries: Sequence[Delivery], sent: Sent) -> bool:
        # Events that did not arrive come first: a later one of the same key must not overtake them.
        arrived = sum(isinstance(result, Delivered) for _, result in sent.results)
        return arrived == len(deliveries) and sent.trouble is None and self._state.alerts.may_deliver()

    async def _pause(self, seconds: float, trouble: Trouble) -> None:
        """Wait for the next attempt; if the events may have caused the failure, a new urgent event ends the wait."""
        waits: list[asyncio.Task[object]] = [asyncio.create_task(self._state.resume_sending.wait())]
        if trouble.event_suspected:
            # Refused events are not tried one by one: only a new urgent event may find the endpoint accepting again.
            after = self._newest_seen if isinstance(trouble, Refused) else 0
            waits.append(asyncio.create_task(self._wait_for_untried_urgent(after)))
        try:
            await asyncio.wait(waits, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()
            await asyncio.gather(*waits, return_exceptions=True)

    async def _wait_for_untried_urgent(self, after: int) -> None:
        """Return once an urgent event without failures and with a sequence above ``after`` is waiting."""
        newest = 0
        while newest <= after:
            await asyncio.sleep(PROBE_SECONDS)
            deliveries = await self._outbox.deliveries(
                self._state.name, self._destination.batch, priorities=[Priority.URGENT]
            )
            newest = _newest_untried_urgent(deliveries)
        self._newest_seen = max(self._newest_seen, newest)


def _newest_untried_urgent(deliveries: Sequence[Delivery]) -> int:
    """Return the sequence of the newest urgent event without failures, or 0."""
    sequences = (each.sequence for each in deliveries if each.priority is Priority.URGENT and not each.attempts)
    return max(sequences, default=0)
