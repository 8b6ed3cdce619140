"""Sends each event alone, those of different keys side by side: one that hangs holds back its own key only."""

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
from .delivery_state import PROBE_SECONDS, STORE_FAILED, Sending
from .destination import Down, Refused, Sent, Trouble
from .failure_cause import LATE_SECONDS, Blame, Key, Room, key_of, room

GATHER_SECONDS = 0.25
"""How long the first replies wait for the others that were sent with them, so that one commit settles all."""

_LOGGER = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Reply:
    """What became of one event, and when (monotonic)."""

    delivery: Delivery
    sent: Sent
    began: float
    ended: float


@dataclass(frozen=True, slots=True, kw_only=True)
class _Request:
    """One event on its way. ``has_more``: others of its key wait behind it."""

    began: float
    has_more: bool
    task: asyncio.Task[_Reply]


class ParallelSender:
    """Has one event of each key on its way, and settles it when its reply has come."""

    def __init__(self, sending: Sending) -> None:
        """Send to the destination of ``sending``, which takes one event a request."""
        self._sending = sending
        self._clock = sending.clock
        self._requests: dict[Key, _Request] = {}
        self._together: Collection[asyncio.Task[_Reply]] = ()
        self._blame = Blame()
        self._doubt: Trouble | None = None
        self._paused_until = self._probe_at = 0.0
        """Monotonic; 0: there is no pause. One that is over lasts until what may go then was sent."""

    async def run(self) -> None:
        """Start requests as there is room and settle their replies. Ends only by cancellation."""
        async with asyncio.TaskGroup() as group:
            while True:
                try:
                    await self._settle_replies()
                    listens = await self._send_some(group)
                except StoreError:
                    _LOGGER.exception("%s: what was sent could not be settled; it is sent again", self._sending.name)
                    listens = False
                    self._hold(STORE_FAILED)
                await self._until_something(listens=listens)

    # Replies

    async def _settle_replies(self) -> None:
        """Settle the events whose replies came, and decide whose fault the failures were."""
        ended = [key for key, request in self._requests.items() if request.task.done()]
        if not ended:
            return
        replies = sorted((self._requests.pop(key).task.result() for key in ended), key=lambda reply: reply.ended)
        results: list[tuple[Delivery, DeliveryResult]] = []
        answers: list[InboxItem] = []
        trouble: Trouble | None = None
        for reply in replies:
            if any(isinstance(result, Delivered) for _, result in reply.sent.results):
                trouble = None
            trouble = _worse(trouble, self._judge(reply, results))
            answers += reply.sent.answers
        await self._sending.record(Sent(results=results, answers=answers))
        if self._sending.health.trouble is None:
            self._paused_until = self._probe_at = 0.0
        if 0 < self._paused_until <= self._clock.monotonic():
            trouble = None  # a pause is over: an alarm that was tried in it says nothing of all else, which goes now
        self._doubt = trouble if trouble is not None and trouble.of_event else None
        if trouble is not None and (self._blame.is_of_link or not trouble.of_event):
            await self._pause(trouble)

    def _judge(self, reply: _Reply, results: list[tuple[Delivery, DeliveryResult]]) -> Trouble | None:
        """Add the verdicts that follow from one reply; return what may be wrong with the link."""
        results += reply.sent.results
        trouble = reply.sent.trouble
        if trouble is not None and not trouble.of_event:
            return trouble
        if trouble is not None:
            self._blame, own = self._blame.failed(reply.delivery, trouble, began=reply.began)
            results += own
            return None if own else trouble
        if any(isinstance(result, Delivered) for _, result in reply.sent.results):
            self._blame, own = self._blame.passed(reply.delivery, at=reply.ended)
            results += own
        return None

    async def _pause(self, trouble: Trouble) -> None:
        self._hold(trouble)
        await self._sending.outbox.mark_unreachable(self._sending.name)

    def _hold(self, trouble: Trouble) -> None:
        """Send nothing for a while; failures of requests that were under way together count as one.

        A refusal of an alarm that was tried meanwhile lengthens no pause that a refusal began.
        """
        self._doubt = None
        now = self._clock.monotonic()
        is_first_refusal = isinstance(trouble, Refused) and not isinstance(self._sending.health.trouble, Refused)
        if now >= self._paused_until or is_first_refusal:
            self._paused_until = now + self._sending.failed(trouble)
        elif isinstance(trouble, Down) and trouble.retry_after is not None:
            self._paused_until = max(self._paused_until, now + min(trouble.retry_after, LONGEST_RETRY_AFTER))

    # Requests

    async def _send_some(self, group: asyncio.TaskGroup) -> bool:
        """Send what may go now; return whether news could let more go."""
        self._together = ()
        now = self._clock.monotonic()
        space = self._room(now)
        if not self._sending.alerts.may_deliver() or not space.priorities:
            return False
        if now >= self._paused_until:
            self._paused_until = 0.0
        paused = self._paused_until > 0
        if paused and not self._may_probe(now):
            return False
        if await self._send_others(group, space, paused=paused) or paused or not self._blame.tried:
            return True
        if self._doubt is not None:
            await self._pause(self._doubt)
            return self._may_probe(now)
        self._send_from(group, space, await self._draw(space, self._requests.keys()))
        return True

    def _room(self, now: float) -> Room:
        return room([now - request.began for request in self._requests.values()])

    def _may_probe(self, now: float) -> bool:
        """Return whether an alarm of a key that has not failed may be tried, though the link seems to be down."""
        trouble = self._sending.health.trouble
        return now >= self._probe_at and trouble is not None and trouble.of_event

    async def _send_others(self, group: asyncio.TaskGroup, space: Room, *, paused: bool) -> bool:
        """Send events of keys that have not failed; return whether there were any."""
        if paused:
            space = Room(any=0, alarms=min(space.alarms, 1))
        is_any = self._send_from(group, space, await self._draw(space, {*self._requests, *self._blame.tried}))
        if is_any and paused:
            self._probe_at = self._clock.monotonic() + PROBE_SECONDS
        return is_any

    async def _draw(self, space: Room, busy: Collection[Key]) -> Sequence[Delivery]:
        """Return events that may go now; no pack of readings while others wait behind a reply that is not late."""
        now = self._clock.monotonic()
        held = any(each.has_more and now - each.began < LATE_SECONDS for each in self._requests.values())
        priorities = [each for each in space.priorities if not (held and each is Priority.READING)]
        destination = self._sending.destination
        return await self._sending.outbox.deliveries(
            destination.name, destination.batch, priorities=priorities, busy=busy
        )

    def _send_from(self, group: asyncio.TaskGroup, space: Room, deliveries: Sequence[Delivery]) -> bool:
        waiting = Counter(map(key_of, deliveries))
        chosen = list(fitting(space, deliveries))
        for delivery in chosen:
            key, began = key_of(delivery), self._clock.monotonic()
            self._blame = self._blame.started(delivery)
            task = group.create_task(self._deliver(delivery, began), name=f"deliver to {self._sending.name}")
            self._requests[key] = _Request(began=began, has_more=waiting[key] > 1, task=task)
        self._together = [self._requests[key_of(delivery)].task for delivery in chosen]
        return bool(chosen)

    async def _deliver(self, delivery: Delivery, began: float) -> _Reply:
        sent = await self._sending.destination.send([delivery], proven=self._sending.proven, token=None)
        return _Reply(delivery=delivery, sent=sent, began=began, ended=self._clock.monotonic())

    # Waiting

    async def _until_something(self, *, listens: bool) -> None:
        """Return when replies came, something new may go, or a pause is over."""
        if self._together:
            await asyncio.wait(self._together, timeout=GATHER_SECONDS)
        tasks = [request.task for request in self._requests.values()]
        if any(task.done() for task in tasks):
            return
        wakers: list[asyncio.Task[object]] = [asyncio.create_task(self._sending.retry.wait())]
        if listens:
            wakers.append(asyncio.create_task(self._sending.outbox.wait_for_events(self._sending.name)))
        if not self._sending.alerts.may_deliver():
            wakers.append(asyncio.create_task(self._sending.alerts.until_may_deliver()))
        try:
            await asyncio.wait([*tasks, *wakers], timeout=self._left(), return_when=asyncio.FIRST_COMPLETED)
            if wakers[0].done():
                self._sending.retry.clear()
                self._paused_until = min(self._paused_until, self._clock.monotonic())
        finally:
            for waker in wakers:
                waker.cancel()
            await asyncio.gather(*wakers, return_exceptions=True)

    def _left(self) -> float | None:
        """Return the seconds until something changes by itself: a pause ends, a probe may go, a request is late."""
        now = self._clock.monotonic()
        moments = [request.began + LATE_SECONDS for request in self._requests.values()]
        moments += [self._paused_until, self._probe_at]
        return min((moment - now for moment in moments if moment > now), default=None)


def fitting(space: Room, deliveries: Sequence[Delivery]) -> Iterator[Delivery]:
    """Yield the first event of each key, in order, as far as there is room.

    But no pack of readings behind what has to wait for its key: on a thin line it takes as long as many alarms.
    """
    keys: set[Key] = set()
    chosen = 0
    for place, delivery in enumerate(deliveries):
        if delivery.priority is Priority.READING and len(keys) < place:
            return
        if key_of(delivery) in keys:
            continue
        keys.add(key_of(delivery))
        if chosen < (max(space.any, space.alarms) if delivery.priority is Priority.URGENT else space.any):
            chosen += 1
            yield delivery


def _worse(one: Trouble | None, other: Trouble | None) -> Trouble | None:
    """Return what is to be shown of two troubles: a refusal rather than a link that is down, else the newer one."""
    return one if other is None or (isinstance(one, Refused) and not isinstance(other, Refused)) else other
