"""The outbox: an accepted event is on disk until every destination that wants it has confirmed it."""

import asyncio
import contextlib
import secrets
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from itertools import chain

from process_cosmos_gateway.clock import Clock
from process_cosmos_gateway.contract.destinations import EventKind, Priority, RejectedEvent
from process_cosmos_gateway.contract.identifiers import Ulid, UlidFactory
from process_cosmos_gateway.errors import StoreError
from process_cosmos_gateway.store import Store, Transaction

from . import counters, enqueue, eviction, overflow_queue, reading_batches, rejected, series, settlement, subscriptions
from .depths import read_depths
from .dequeue import Busy, FetchRequest, FetchResult, fetch
from .enqueue import Conditions, EncodedEvent
from .group_commit import GroupCommit, Outcome
from .key_ranges import KeyRanges
from .model import (
    Added,
    Delivered,
    Delivery,
    DeliveryResult,
    Depths,
    DropReason,
    Event,
    Failed,
    Limits,
    OutboxFullError,
    OutgoingReading,
)
from .order import remember, rest
from .quotas import Backlogs, quotas_now

type OnSettled = Callable[[Transaction, str, Delivery, DeliveryResult], None]
type OnUnreachable = Callable[[Transaction, str], None]
type OnAlertSubscription = Callable[[Transaction, str], Iterable[Event]]

_LONGEST_LOOK_AWAY = 1.0
"""Seconds: the clock may be shifted or sped up while nobody looks."""


class Outbox:
    """Accepts events, hands them to destinations in order, and forgets them when all have confirmed."""

    def __init__(
        self, store: Store, clock: Clock, limits: Limits | None = None, ulid_fn: Callable[[], Ulid] | None = None
    ) -> None:
        """Keep events in ``store``; ``ulid_fn`` makes the ids of packs."""
        self._store = store
        self._clock = clock
        self._limits = limits or Limits()
        self._ulid_fn = ulid_fn or UlidFactory(lambda: int(clock.now().timestamp() * 1000), secrets.token_bytes)
        self._watchers: list[tuple[OnSettled, OnUnreachable, OnAlertSubscription]] = []
        self._news: dict[str, asyncio.Event] = {}
        self._resting: dict[str, dict[tuple[Priority, int], float]] = {}
        self._sent: dict[str, Mapping[Priority, float]] = {}
        self._key_ranges: dict[str, KeyRanges] = {}
        self._down: set[str] = set()
        self._group_commit = GroupCommit(self._commit)

    def add_callbacks(
        self,
        on_settled: OnSettled = lambda *_: None,
        on_unreachable: OnUnreachable = lambda *_: None,
        on_alert_subscription: OnAlertSubscription = lambda *_: (),
    ) -> None:
        """Call these in the transaction of what they hear of.

        ``on_settled``: a destination has answered. ``on_unreachable``: what waits for a destination has to go on waiting.
        ``on_alert_subscription``: a destination that wants alerts is new; what is returned goes to it alone, ids known or not.
        """
        self._watchers.append((on_settled, on_unreachable, on_alert_subscription))

    # Accepting

    def add(self, transaction: Transaction, event: Event) -> Added:
        """Accept ``event`` together with whatever else ``transaction`` changes.

        A change for which there is no room is dropped. Raises ``OutboxFullError`` for such an alarm of no alert;
        then nothing of it is kept.
        """
        [taken] = self._take(transaction, [EncodedEvent(event, event.encode(self._store.site))])
        if taken is Added.CONFLICT and event.is_own:
            # A program has used the id before: nothing tells it whose turn that was, and the event must not be lost.
            event = replace(event, id=self._ulid_fn())
            [taken] = self._take(transaction, [EncodedEvent(event, event.encode(self._store.site))])
        if not isinstance(taken, OutboxFullError):
            return taken
        if event.priority is Priority.URGENT:
            raise taken
        counters.drop(transaction, event.priority, taken.reason, 1)
        return Added.DROPPED

    async def accept(self, event: Event) -> Added:
        """Return once ``event`` survives a power cut; raise ``StoreError`` or ``OutboxFullError`` if it is not kept."""
        return await self.submit(event)

    def submit(self, event: Event, after: Outcome | None = None) -> Outcome:
        """Begin to accept ``event``; the outcome is what ``accept`` returns or raises. All who wait share one commit.

        ``after``: the outcome of an earlier event of the same key and priority. Where that fails, so does this one.
        """
        return self._group_commit.submit(EncodedEvent(event, event.encode(self._store.site)), after)

    def add_readings(self, transaction: Transaction, readings: Sequence[OutgoingReading]) -> None:
        """Queue readings that are new, for destinations that want readings; many leave in one event."""
        reading_batches.add(transaction, readings, self._prepare_intake(transaction))
        transaction.after_commit(self._wake_all)

    async def delete_unused_series(self) -> None:
        """Forget the names of properties of which no reading waits, a bite a commit; raise ``StoreError``."""
        used: set[int] = set()
        last: int | None = 0
        while last is not None:
            until = last
            some, last = await self._store.read(partial(series.used, after=until))
            used |= some
        while await self._store.write(partial(series.forget_unused, used=used, until=until)):
            pass

    def has_subscriber(self, transaction: Transaction, kind: EventKind) -> bool:
        """Say whether any destination wants events of ``kind``."""
        return bool(transaction.rows("SELECT 1 FROM outbox_kind WHERE kind = ? LIMIT 1", kind))

    def count_drop(self, transaction: Transaction, priority: Priority, reason: DropReason, number: int) -> None:
        """Count what somebody else has held back."""
        counters.drop(transaction, priority, reason, number)

    async def _commit(self, arrivals: Sequence[EncodedEvent]) -> Sequence[enqueue.EnqueueResult]:
        return await self._store.write(partial(self._take, arrivals=arrivals))

    def _take(self, transaction: Transaction, arrivals: Sequence[EncodedEvent]) -> Sequence[enqueue.EnqueueResult]:
        transaction.after_commit(self._wake_all)
        return enqueue.take(transaction, arrivals, self._prepare_intake(transaction))

    def _conditions(self, transaction: Transaction) -> Conditions:
        audience = counters.Audience.read(transaction)
        free = self._store.writable(transaction)
        return Conditions(
            now=self._clock.now().timestamp(),
            limits=self._limits_with(free, audience.bytes),
            free=free,
            reserve=self._store.space.reserve,
            audience=audience,
        )

    def _prepare_intake(self, transaction: Transaction) -> Conditions:
        """Let waiting readings make room for alarms on a disk that is nearly full; return the conditions."""
        under = self._conditions(transaction)
        if under.free < under.reserve:
            reading_batches.make_room(transaction, under.limits)
            return replace(under, audience=counters.Audience.read(transaction))
        return under

    def _limits_now(self, transaction: Transaction) -> Limits:
        """Return the limits with each quota that follows the free disk as it is now."""
        return self._limits_with(self._store.writable(transaction), counters.backlogs(transaction))

    def _limits_with(self, free: int, backlogs: Backlogs) -> Limits:
        quota, keeps = quotas_now(free, self._store.space.reserve, backlogs, self._limits.quota)
        return replace(self._limits, quota=quota, keeps_backlog=keeps)

    def withdraw(self, transaction: Transaction, event: Ulid, destination: str) -> None:
        """Take back an alarm that was for ``destination`` only; one that is on its way may still arrive."""
        enqueue.withdraw(transaction, event, destination, self._limits_now(transaction))
        transaction.after_commit(self._wake_all)

    def is_reachable(self, transaction: Transaction, destination: str) -> bool:
        """Say whether ``destination`` is known and its link not known to be down."""
        known = transaction.rows("SELECT 1 FROM outbox_destination WHERE name = ?", destination)
        return bool(known) and destination not in self._down

    # Destinations

    async def register(self, name: str, kinds: Collection[EventKind]) -> None:
        """Let ``name`` have events of ``kinds`` from now on; a new one also hears of the alerts that are alive."""

        def change(transaction: Transaction) -> None:
            if subscriptions.join(transaction, name, kinds):
                audience = counters.Audience.read(transaction)
                for event in chain.from_iterable(joined(transaction, name) for _, _, joined in self._watchers):
                    entry = EncodedEvent(event, event.encode(self._store.site)), (name,)
                    now = self._clock.now().timestamp()
                    enqueue.enqueue(transaction, event.priority, [entry], now, audience)

        await self._store.write(change)
        self._key_ranges.pop(name, None)
        self._wake_all()

    async def unregister(self, name: str) -> None:
        """Forget ``name``, with what only it was waiting for."""

        def change(transaction: Transaction) -> None:
            self._tell_link_down(transaction, name)
            subscriptions.leave(transaction, name)

        await self._store.write(change)
        self._news.pop(name, None)
        self._resting.pop(name, None)
        self._sent.pop(name, None)
        self._key_ranges.pop(name, None)
        self._down.discard(name)

    async def mark_unreachable(self, name: str) -> None:
        """Let watchers know, once until something is delivered, that what waits for ``name`` will not go soon."""
        if name in self._down:
            return
        self._down.add(name)
        try:
            await self._store.write(lambda transaction: self._tell_link_down(transaction, name))
        except StoreError:
            self._down.discard(name)
            raise

    def _tell_link_down(self, transaction: Transaction, name: str) -> None:
        for _, link_down, _ in self._watchers:
            link_down(transaction, name)

    # Draining

    async def wait_for_events(self, destination: str) -> None:
        """Return when there may be something to send."""
        news = self._news_of(destination)
        while not news.is_set():
            backing_off = self._resting.get(destination, {})
            if not backing_off:
                await news.wait()
                return
            left = min(backing_off.values()) - self._clock.monotonic()
            if left <= 0:
                return
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(news.wait(), min(left, _LONGEST_LOOK_AWAY))

    async def deliveries(
        self,
        destination: str,
        limit: int,
        *,
        priorities: Collection[Priority] = tuple(Priority),
        busy: Busy = (),
    ) -> Sequence[Delivery]:
        """Return at most ``limit`` events to send now, in order per key, without what is held back or has expired.

        Alarms come first, but for what is guaranteed to the others. The same come again until they are settled.
        ``priorities``: only those; ``busy``: nothing of these priorities and keys, an event of which is on its way.
        """
        news = self._news_of(destination)
        news.clear()
        now = self._clock.monotonic()
        backing_off = {key: ready for key, ready in self._resting.get(destination, {}).items() if ready > now}
        self._resting[destination] = backing_off
        request = replace(self._request(destination, limit), backing_off=backing_off, priorities=priorities, busy=busy)
        while not (result := await self._draw(request)).is_clear or result.goes_on:
            if not result.is_clear:
                await self._store.write(partial(self._clear, destination=destination, result=result))
            request = replace(request, now=self._clock.now().timestamp())
        if not busy and len(priorities) == len(Priority) and sum(map(bool, result.waiting.values())) == 1:
            self._sent.pop(destination, None)
        deliveries = result.compose(self._sent.get(destination, {}), limit)
        if deliveries:
            news.set()
        return deliveries

    async def prefetch(self, destination: str, limit: int, on_the_way: Sequence[Delivery]) -> Sequence[Delivery]:
        """Return what may go once all ``on_the_way``, not settled yet, is delivered: so that the link need not wait.

        Nothing, where something has failed, or stands in the way: that is for ``deliveries`` to see, after the settlement.
        """
        if self._resting.get(destination):
            return ()
        reached: dict[Priority, int] = {}
        for delivery in on_the_way:
            reached[delivery.priority] = max(delivery.sequence, reached.get(delivery.priority, 0))
        result = await self._draw(replace(self._request(destination, limit), reached=reached))
        return result.compose(self._sent.get(destination, {}), limit) if result.is_clear else ()

    def _request(self, destination: str, limit: int) -> FetchRequest:
        now = self._clock.now().timestamp()
        return FetchRequest(
            destination=destination,
            limit=limit,
            limits=self._limits,
            now=now,
            site=self._store.site,
            key_ranges=self._key_ranges.setdefault(destination, KeyRanges()),
        )

    async def _draw(self, request: FetchRequest) -> FetchResult:
        return await self._store.read(
            lambda transaction: fetch(transaction, replace(request, limits=self._limits_now(transaction)))
        )

    def _clear(self, transaction: Transaction, destination: str, result: FetchResult) -> None:
        """Give up what has expired, set aside what is damaged, unpark, cut the pack that is to go."""
        for priority, sequence in result.expired:
            eviction.give_up_for_all(transaction, priority, [sequence], DropReason.EXPIRED)
        for priority, sequence in result.damaged:
            # Another destination may have met it at the same time.
            for row in transaction.rows(f"SELECT * FROM outbox_{priority} WHERE sequence = ?", sequence):  # noqa: S608 - ours
                self._store.quarantine(transaction, f"outbox_{priority}", row)
                if priority is Priority.READING:
                    reading_batches.give_up(transaction, sequence)
                else:
                    eviction.give_up_for_all(transaction, priority, [sequence], DropReason.DAMAGED)
        overflow_queue.expire(transaction, result.now)
        overflow_queue.unpark(transaction, destination, self._limits_now(transaction))
        reading_batches.cut(transaction, destination, self._ulid_fn)

    async def settle(
        self,
        destination: str,
        results: Sequence[tuple[Delivery, DeliveryResult]],
        *,
        also: Callable[[Transaction], None] | None = None,
    ) -> None:
        """Write down what became of parcels that ``deliveries`` gave, with ``also``.

        Watchers hear of it in the same transaction.
        """

        def change(transaction: Transaction) -> Sequence[tuple[Delivery, DeliveryResult]]:
            now = self._clock.now().timestamp()
            judged = settlement.settle(transaction, destination, results, self._limits_now(transaction), now)
            for settled, _, _ in self._watchers:
                for delivery, result in judged:
                    settled(transaction, destination, delivery, result)
            if also is not None:
                also(transaction)
            reading_batches.cut(transaction, destination, self._ulid_fn)
            return judged

        if not results:
            return
        self._note(destination, await self._store.write(change))

    def _note(self, destination: str, judged: Sequence[tuple[Delivery, DeliveryResult]]) -> None:
        """Remember, until the next start, what rests and how much each priority had of the link."""
        backing_off = self._resting.setdefault(destination, {})
        sent = dict.fromkeys(Priority, 0)
        for delivery, result in judged:
            if isinstance(result, Failed):
                pause = rest(delivery.attempts + 1, self._limits.longest_backoff)
                backing_off[delivery.priority, delivery.sequence] = self._clock.monotonic() + pause
                continue
            backing_off.pop((delivery.priority, delivery.sequence), None)
            self._down.discard(destination)
            if isinstance(result, Delivered):
                sent[delivery.priority] += len(delivery.body)
        self._sent[destination] = remember(self._sent.get(destination, {}), sent)
        self._news_of(destination).set()

    # Looking

    async def depths(self) -> Depths:
        """Return what waits, from counters."""
        return await self._store.read(lambda transaction: read_depths(transaction, self._conditions(transaction)))

    async def last_own_id_ms(self) -> int | None:
        """Return the time (ms) of the newest id this gateway has made for an event, so that later ones are above it."""
        last = await self._store.read(lambda transaction: counters.counted(transaction, "own_id_ms"))
        return last or None

    async def rejected(self, after: int = 0) -> Sequence[RejectedEvent]:
        """Return the oldest 500 events, after a number, that destinations refused for good."""
        return await self._store.read(lambda transaction: rejected.listed(transaction, after))

    async def send_again(self, numbers: Collection[int] | None = None) -> int:
        """Queue rejected events anew (None: all), marked as replayed; return how many."""
        now = self._clock.now().timestamp()
        sent = await self._store.write(lambda transaction: rejected.send_again(transaction, numbers, now))
        self._wake_all()
        return sent

    async def discard_rejected(self, numbers: Collection[int] | None = None) -> int:
        """Forget rejected events (None: all); return how many."""
        return await self._store.write(lambda transaction: rejected.discard(transaction, numbers))

    def _news_of(self, destination: str) -> asyncio.Event:
        if destination not in self._news:
            self._news[destination] = asyncio.Event()
            self._news[destination].set()  # something may have waited since before this start
        return self._news[destination]

    def _wake_all(self) -> None:
        for news in self._news.values():
            news.set()
