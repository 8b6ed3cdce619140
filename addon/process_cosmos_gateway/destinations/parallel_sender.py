"""The sender for destinations that accept one event a request: keys in parallel, so that a hang delays one key only."""

import asyncio
import logging
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

from process_cosmos_gateway.contract.cloud import InboxItem
from process_cosmos_gateway.contract.destinations import Priority
from process_cosmos_gateway.errors import StoreError
from process_cosmos_gateway.outbox import Delivered, Delivery, DeliveryResult

from .backoff import LONGEST_RETRY_AFTER
from .delivery_state import PROBE_SECONDS, STORE_FAILED, DeliveryState
from .destination import Down, Refused, Sent, Trouble
from .failure_cause import LATE_SECONDS, FailureAttribution, Key, SendCapacity, key_of, send_capacity

GATHER_SECONDS = 0.25
"""Seconds the first replies wait for others sent with them, so that one commit settles all."""

_LOGGER = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Outcome:
    """The outcome of sending one event, with monotonic times."""

    delivery: Delivery
    sent: Sent
    began: float
    ended: float


@dataclass(frozen=True, slots=True, kw_only=True)
class _InFlight:
    """A running request with one event. ``has_more``: later events of its key are waiting."""

    began: float
    has_more: bool
    task: asyncio.Task[_Outcome]


class ParallelSender:
    """Sends one event of each key at a time, and settles it when its reply arrives."""

    def __init__(self, state: DeliveryState) -> None:
        """Send to the destination of ``state``, which accepts one event a request."""
        self._state = state
        self._clock = state.clock
        self._requests: dict[Key, _InFlight] = {}
        self._started_together: Collection[asyncio.Task[_Outcome]] = ()
        self._attribution = FailureAttribution()
        self._unattributed: Trouble | None = None
        self._paused_until = self._probe_at = 0.0
        """Monotonic; 0: no pause. An expired pause lasts until the events it allows were sent."""

    async def run(self) -> None:
        """Start requests within the capacity and settle their replies. Ends only by cancellation."""
        async with asyncio.TaskGroup() as group:
            while True:
                try:
                    await self._settle_replies()
                    listens = await self._send_ready(group)
                except StoreError:
                    _LOGGER.exception(
                        "%s: the delivery results could not be stored; the events are sent again", self._state.name
                    )
                    listens = False
                    self._begin_pause(STORE_FAILED)
                await self._wait_for_change(listens=listens)

    # Replies

    async def _settle_replies(self) -> None:
        """Settle the events whose replies arrived, and attribute the failures."""
        ended = [key for key, request in self._requests.items() if request.task.done()]
        if not ended:
            return
        # In the order of their arrival, on which the attribution of failures depends.
        replies = sorted((self._requests.pop(key).task.result() for key in ended), key=lambda reply: reply.ended)
        results: list[tuple[Delivery, DeliveryResult]] = []
        answers: list[InboxItem] = []
        trouble: Trouble | None = None
        for reply in replies:
            if any(isinstance(result, Delivered) for _, result in reply.sent.results):
                # A delivery disproves the failures of the link that were reported before it.
                trouble = None
            trouble = _more_severe(trouble, self._attribute(reply, results))
            answers += reply.sent.answers
        await self._state.record(Sent(results=results, answers=answers))
        if self._state.sending_health.trouble is None:
            self._paused_until = self._probe_at = 0.0
        if 0 < self._paused_until <= self._clock.monotonic():
            trouble = (
                None  # an expired pause: the result of an urgent event tried during it does not hold for the others
            )
        self._unattributed = trouble if trouble is not None and trouble.event_suspected else None
        if trouble is not None and (self._attribution.is_link_failure or not trouble.event_suspected):
            await self._pause(trouble)

    def _attribute(self, reply: _Outcome, results: list[tuple[Delivery, DeliveryResult]]) -> Trouble | None:
        """Add the delivery results that follow from one reply; return what may be wrong with the link."""
        results += reply.sent.results
        trouble = reply.sent.trouble
        if trouble is not None and not trouble.event_suspected:
            return trouble
        if trouble is not None:
            self._attribution, own = self._attribution.failed(reply.delivery, trouble, began=reply.began)
            results += own
            return None if own else trouble
        if any(isinstance(result, Delivered) for _, result in reply.sent.results):
            self._attribution, own = self._attribution.delivered(reply.delivery, at=reply.ended)
            results += own
        return None

    async def _pause(self, trouble: Trouble) -> None:
        self._begin_pause(trouble)
        await self._state.outbox.mark_unreachable(self._state.name)

    def _begin_pause(self, trouble: Trouble) -> None:
        """Send nothing for a while; failures of requests that ran together count as one.

        A refusal of an urgent event tried meanwhile does not lengthen a pause that a refusal began.
        """
        self._unattributed = None
        now = self._clock.monotonic()
        is_first_refusal = isinstance(trouble, Refused) and not isinstance(self._state.sending_health.trouble, Refused)
        if now >= self._paused_until or is_first_refusal:
            self._paused_until = now + self._state.note_failure(trouble)
        elif isinstance(trouble, Down) and trouble.retry_after is not None:
            self._paused_until = max(self._paused_until, now + min(trouble.retry_after, LONGEST_RETRY_AFTER))

    # Requests

    async def _send_ready(self, group: asyncio.TaskGroup) -> bool:
        """Send the events that may be sent now; return whether new events could be sent too."""
        self._started_together = ()
        now = self._clock.monotonic()
        capacity = self._capacity(now)
        if not self._state.alerts.may_deliver() or not capacity.priorities:
            return False
        if now >= self._paused_until:
            self._paused_until = 0.0
        paused = self._paused_until > 0
        if paused and not self._may_probe(now):
            return False
        if await self._send_untried(group, capacity, paused=paused) or paused or not self._attribution.failed_keys:
            return True
        # Only failed keys are left, so no other event can show whether the link works: treat it as down.
        if self._unattributed is not None:
            await self._pause(self._unattributed)
            return self._may_probe(now)
        # Failed keys come last: each of them may occupy a request until its time-out.
        self._start_requests(group, capacity, await self._fetch(capacity, self._requests.keys()))
        return True

    def _capacity(self, now: float) -> SendCapacity:
        return send_capacity([now - request.began for request in self._requests.values()])

    def _may_probe(self, now: float) -> bool:
        """Return whether an urgent event of a key without failures may be tried although the link seems to be down."""
        trouble = self._state.sending_health.trouble
        return now >= self._probe_at and trouble is not None and trouble.event_suspected

    async def _send_untried(self, group: asyncio.TaskGroup, capacity: SendCapacity, *, paused: bool) -> bool:
        """Send events of keys that have not failed; return whether there were any."""
        if paused:
            capacity = SendCapacity(any=0, urgent=min(capacity.urgent, 1))
        is_any = self._start_requests(
            group, capacity, await self._fetch(capacity, {*self._requests, *self._attribution.failed_keys})
        )
        if is_any and paused:
            self._probe_at = self._clock.monotonic() + PROBE_SECONDS
        return is_any

    async def _fetch(self, capacity: SendCapacity, busy: Collection[Key]) -> Sequence[Delivery]:
        """Fetch events to send; no reading batch while events wait behind a reply that is not late."""
        now = self._clock.monotonic()
        held = any(each.has_more and now - each.began < LATE_SECONDS for each in self._requests.values())
        priorities = [each for each in capacity.priorities if not (held and each is Priority.READING)]
        batch = self._state.destination.batch
        return await self._state.outbox.deliveries(self._state.name, batch, priorities=priorities, busy=busy)

    def _start_requests(self, group: asyncio.TaskGroup, capacity: SendCapacity, deliveries: Sequence[Delivery]) -> bool:
        waiting = Counter(map(key_of, deliveries))
        chosen = list(select_deliveries(capacity, deliveries))
        for delivery in chosen:
            key, began = key_of(delivery), self._clock.monotonic()
            self._attribution = self._attribution.started(delivery)
            task = group.create_task(self._deliver(delivery, began), name=f"deliver to {self._state.name}")
            self._requests[key] = _InFlight(began=began, has_more=waiting[key] > 1, task=task)
        self._started_together = [self._requests[key_of(delivery)].task for delivery in chosen]
        return bool(chosen)

    async def _deliver(self, delivery: Delivery, began: float) -> _Outcome:
        sent = await self._state.destination.send([delivery], proven=self._state.proven, token=None)
        return _Outcome(delivery=delivery, sent=sent, began=began, ended=self._clock.monotonic())

    # Waiting

    async def _wait_for_change(self, *, listens: bool) -> None:
        """Return when replies arrived, new events may be sent, or a pause has ended."""
        if self._started_together:
            await asyncio.wait(self._started_together, timeout=GATHER_SECONDS)
        tasks = [request.task for request in self._requests.values()]
        if any(task.done() for task in tasks):
            return
        wakers: list[asyncio.Task[object]] = [asyncio.create_task(self._state.resume_sending.wait())]
        if listens:
            wakers.append(asyncio.create_task(self._state.outbox.wait_for_events(self._state.name)))
        if not self._state.alerts.may_deliver():
            wakers.append(asyncio.create_task(self._state.alerts.until_may_deliver()))
        try:
            await asyncio.wait(
                [*tasks, *wakers], timeout=self._seconds_until_change(), return_when=asyncio.FIRST_COMPLETED
            )
            if wakers[0].done():
                self._state.resume_sending.clear()
                self._paused_until = min(self._paused_until, self._clock.monotonic())
        finally:
            for waker in wakers:
                waker.cancel()
            await asyncio.gather(*wakers, return_exceptions=True)

    def _seconds_until_change(self) -> float | None:
        """Return the seconds until a pause ends, a probe is allowed or a request becomes late."""
        now = self._clock.monotonic()
        moments = [request.began + LATE_SECONDS for request in self._requests.values()]
        moments += [self._paused_until, self._probe_at]
        return min((moment - now for moment in moments if moment > now), default=None)


def select_deliveries(capacity: SendCapacity, deliveries: Sequence[Delivery]) -> Iterator[Delivery]:
    """Yield the first event of each key, in order, within the capacity.

    No reading batch follows events that wait for their key: on a slow link it takes as long as many urgent events.
    """
    keys: set[Key] = set()
    chosen = 0
    for place, delivery in enumerate(deliveries):
        if delivery.priority is Priority.READING and len(keys) < place:
            return
        if key_of(delivery) in keys:
            continue
        keys.add(key_of(delivery))
        if chosen < (max(capacity.any, capacity.urgent) if delivery.priority is Priority.URGENT else capacity.any):
            chosen += 1
            yield delivery


def _more_severe(one: Trouble | None, other: Trouble | None) -> Trouble | None:
    """Return the failure to report: a refusal rather than a link that is down, else the newer one."""
    return one if other is None or (isinstance(one, Refused) and not isinstance(other, Refused)) else other
