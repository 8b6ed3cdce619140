"""The outbox: every accepted event stays on disk until each of its destinations has confirmed it."""

import asyncio
import contextlib
import secrets
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from itertools import chain

from process_cosmos_gateway.backoff import exponential_delay
from process_cosmos_gateway.clock import Clock
from process_cosmos_gateway.contract.destinations import EventKind, Priority, RejectedEvent
from process_cosmos_gateway.contract.identifiers import Ulid, UlidFactory
from process_cosmos_gateway.errors import StoreError
from process_cosmos_gateway.store import Store, Transaction

from . import counters, enqueue, eviction, reading_batches, rejected, series, settlement, subscriptions
from .depths import read_depths
from .dequeue import Busy, FetchRequest, FetchResult, fetch_deliveries
from .enqueue import EncodedEvent, EnqueueContext
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
from .order import add_sent_bytes, compose_batch
from .quotas import Backlogs, current_quotas

type OnSettled = Callable[[Transaction, str, Delivery, DeliveryResult], None]
type OnUnreachable = Callable[[Transaction, str], None]
type OnAlertSubscription = Callable[[Transaction, str], Iterable[Event]]

_MAX_WAIT = 1.0
"""Longest wait in seconds before the clock is read again: it may be shifted or sped up meanwhile."""


class Outbox:
    """A durable queue per destination: accepts events, returns them in order and deletes them when confirmed by all."""

    def __init__(
        self, store: Store, clock: Clock, limits: Limits | None = None, ulid_fn: Callable[[], Ulid] | None = None
    ) -> None:
        """Store events in ``store``; ``ulid_fn`` generates the ids of reading batches."""
        self._store = store
        self._clock = clock
        self._limits = limits or Limits()
        self._ulid_fn = ulid_fn or UlidFactory(lambda: int(clock.now().timestamp() * 1000), secrets.token_bytes)
        self._callbacks: list[tuple[OnSettled, OnUnreachable, OnAlertSubscription]] = []
        self._signals: dict[str, asyncio.Event] = {}
        self._backing_off: dict[str, dict[tuple[Priority, int], float]] = {}
        self._sent: dict[str, Mapping[Priority, float]] = {}
        self._key_ranges: dict[str, KeyRanges] = {}
        self._unreachable: set[str] = set()
        self._group_commit = GroupCommit(self._commit)

    def add_callbacks(
        self,
        on_settled: OnSettled = lambda *_: None,
        on_unreachable: OnUnreachable = lambda *_: None,
        on_alert_subscription: OnAlertSubscription = lambda *_: (),
    ) -> None:
        """Register callbacks, called within the transaction of the change they report.

        ``on_settled``: a delivery has a result. ``on_unreachable``: a destination was marked as unreachable or removed.
        ``on_alert_subscription``: a destination newly subscribes to alerts; the returned events are enqueued for it
        alone, without deduplication by id.
        """
        self._callbacks.append((on_settled, on_unreachable, on_alert_subscription))

    # Enqueueing

    def add(self, transaction: Transaction, event: Event) -> Added:
        """Accept ``event`` as part of ``transaction``.

        A change for which there is no room is dropped. An urgent event of no alert for which there is no room raises
        ``OutboxFullError``; nothing of it is stored.
        """
        [result] = self._enqueue_events(transaction, [EncodedEvent(event, event.encode(self._store.site))])
        if result is Added.CONFLICT and event.is_own:
            # A local program used this id before. The event must not be lost, so give it another id.
            event = replace(event, id=self._ulid_fn())
            [result] = self._enqueue_events(transaction, [EncodedEvent(event, event.encode(self._store.site))])
        if not isinstance(result, OutboxFullError):
            return result
        if event.priority is Priority.URGENT:
            raise result
        counters.count_drops(transaction, event.priority, result.reason, 1)
        return Added.DROPPED

    async def accept(self, event: Event) -> Added:
        """Accept ``event`` and return once it is durable; raise ``StoreError`` or ``OutboxFullError`` if it is not."""
        return await self.submit(event)

    def submit(self, event: Event, after: Outcome | None = None) -> Outcome:
        """Start accepting ``event``; return the future result of ``accept``. Pending events share one commit.

        ``after``: the outcome of an earlier event of the same key and priority; if that fails, this event fails too.
        """
        return self._group_commit.submit(EncodedEvent(event, event.encode(self._store.site)), after)

    def add_readings(self, transaction: Transaction, readings: Sequence[OutgoingReading]) -> None:
        """Enqueue readings, as part of ``transaction``, for the subscribers of readings; they are sent in batches."""
        reading_batches.add_readings(transaction, readings, self._context_with_room(transaction))
        transaction.after_commit(self._wake_all)

    async def delete_unused_series(self) -> None:
        """Delete the reading series without pending readings, at most 1,000 per commit; raise ``StoreError``."""
        used: set[int] = set()
        last: int | None = 0
        while last is not None:
            until = last
            numbers, last = await self._store.read(partial(series.read_used_series, after=until))
            used |= numbers
        while await self._store.write(partial(series.delete_unused_series, used=used, until=until)):
            pass

    def has_subscriber(self, transaction: Transaction, kind: EventKind) -> bool:
        """Return whether any destination subscribes to ``kind``."""
        return bool(transaction.rows("SELECT 1 FROM outbox_kind WHERE kind = ? LIMIT 1", kind))

    def count_drop(self, transaction: Transaction, priority: Priority, reason: DropReason, number: int) -> None:
        """Count events or readings that the caller dropped before they reached the outbox."""
        counters.count_drops(transaction, priority, reason, number)

    async def _commit(self, events: Sequence[EncodedEvent]) -> Sequence[enqueue.EnqueueResult]:
        return await self._store.write(partial(self._enqueue_events, events=events))

    def _enqueue_events(
        self, transaction: Transaction, events: Sequence[EncodedEvent]
    ) -> Sequence[enqueue.EnqueueResult]:
        transaction.after_commit(self._wake_all)
        return enqueue.enqueue_events(transaction, events, self._context_with_room(transaction))

    def _context(self, transaction: Transaction) -> EnqueueContext:
        destinations = counters.DestinationSnapshot.read(transaction)
        free = self._store.writable(transaction)
        return EnqueueContext(
            now=self._clock.now().timestamp(),
            limits=self._limits_with(free, destinations.backlog_bytes),
            free=free,
            reserve=self._store.space.reserve,
            destinations=destinations,
        )

    def _context_with_room(self, transaction: Transaction) -> EnqueueContext:
        """Return the context; if less than the reserve is free, first drop readings to make room for urgent events."""
        context = self._context(transaction)
        if context.free < context.reserve:
            reading_batches.drop_for_urgent_events(transaction, context.limits)
            return replace(context, destinations=counters.DestinationSnapshot.read(transaction))
        return context

    def _limits_with(self, free: int, backlogs: Backlogs) -> Limits:
        quota, keeps_backlog = current_quotas(free, self._store.space.reserve, backlogs, self._limits.quota)
        return replace(self._limits, quota=quota, keeps_backlog=keeps_backlog)

    def withdraw(self, transaction: Transaction, event: Ulid, destination: str) -> None:
        """Delete an urgent event for ``destination`` only; if it is being sent, it may still arrive."""
        enqueue.withdraw_event(transaction, event, destination)
        transaction.after_commit(self._wake_all)

    def is_reachable(self, transaction: Transaction, destination: str) -> bool:
        """Return whether ``destination`` is registered and not marked as unreachable."""
        known = transaction.rows("SELECT 1 FROM outbox_destination WHERE name = ?", destination)
        return bool(known) and destination not in self._unreachable

    # Destinations

    async def register(self, name: str, kinds: Collection[EventKind]) -> None:
        """Subscribe ``name`` to exactly ``kinds``; a new subscription to alerts starts with the open alerts."""

        def change(transaction: Transaction) -> None:
            if subscriptions.subscribe(transaction, name, kinds):
                destinations = counters.DestinationSnapshot.read(transaction)
                for event in chain.from_iterable(
                    on_alert_subscription(transaction, name) for _, _, on_alert_subscription in self._callbacks
                ):
                    routed = EncodedEvent(event, event.encode(self._store.site)), (name,)
                    now = self._clock.now().timestamp()
                    enqueue.insert_events(transaction, event.priority, [routed], now, destinations)

        await self._store.write(change)
        self._key_ranges.pop(name, None)
        self._wake_all()

    async def unregister(self, name: str) -> None:
        """Remove the destination ``name``, the events pending for it alone and those it rejected."""

        def change(transaction: Transaction) -> None:
            self._call_on_unreachable(transaction, name)
            subscriptions.unsubscribe(transaction, name)

        await self._store.write(change)
        self._signals.pop(name, None)
        self._backing_off.pop(name, None)
        self._sent.pop(name, None)
        self._key_ranges.pop(name, None)
        self._unreachable.discard(name)

    async def mark_unreachable(self, name: str) -> None:
        """Mark ``name`` as unreachable until it confirms or rejects an event, and call ``on_unreachable`` once.

        Raise ``StoreError`` if that could not be stored.
        """
        if name in self._unreachable:
            return
        self._unreachable.add(name)
        try:
            await self._store.write(lambda transaction: self._call_on_unreachable(transaction, name))
        except StoreError:
            self._unreachable.discard(name)
            raise

    def _call_on_unreachable(self, transaction: Transaction, name: str) -> None:
        for _, on_unreachable, _ in self._callbacks:
            on_unreachable(transaction, name)

    # Delivery

    async def wait_for_events(self, destination: str) -> None:
        """Return when ``destination`` may have events to send: new ones, or failed ones whose retry is due."""
        signal = self._signal(destination)
        while not signal.is_set():
            backing_off = self._backing_off.get(destination, {})
            if not backing_off:
                await signal.wait()
                return
            left = min(backing_off.values()) - self._clock.monotonic()
            if left <= 0:
                return
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(signal.wait(), min(left, _MAX_WAIT))

    async def deliveries(
        self,
        destination: str,
        limit: int,
        *,
        priorities: Collection[Priority] = tuple(Priority),
        busy: Busy = (),
    ) -> Sequence[Delivery]:
        """Return at most ``limit`` events to send now, in order per key, without those held back.

        Urgent events come first, apart from the guaranteed shares of the others. The same events are returned again
        until they are settled. ``priorities``: return only these. ``busy``: priorities and keys of which an event is
        being sent; return none of these.
        """
        signal = self._signal(destination)
        signal.clear()
        now = self._clock.monotonic()
        backing_off = {key: ready for key, ready in self._backing_off.get(destination, {}).items() if ready > now}
        self._backing_off[destination] = backing_off
        request = replace(self._request(destination, limit), backing_off=backing_off, priorities=priorities, busy=busy)
        while (result := await self._fetch(request)).needs_write or result.is_incomplete:
            if result.needs_write:
                await self._store.write(partial(self._apply_writes, destination=destination, result=result))
        if not busy and len(priorities) == len(Priority) and sum(map(bool, result.waiting.values())) == 1:
            self._sent.pop(destination, None)
        deliveries = compose_batch(result.waiting, self._sent.get(destination, {}), limit)
        if deliveries:
            signal.set()
        return deliveries

    async def prefetch(self, destination: str, limit: int, in_flight: Sequence[Delivery]) -> Sequence[Delivery]:
        """Return the events to send after those ``in_flight``, which are not settled yet, to keep the link busy.

        Return nothing if an event has failed or rows must be changed first: call ``deliveries`` after the settlement.
        """
        if self._backing_off.get(destination):
            return ()
        newest: dict[Priority, int] = {}
        for delivery in in_flight:
            newest[delivery.priority] = max(delivery.sequence, newest.get(delivery.priority, 0))
        result = await self._fetch(replace(self._request(destination, limit), in_flight=newest))
        return () if result.needs_write else compose_batch(result.waiting, self._sent.get(destination, {}), limit)

    def _request(self, destination: str, limit: int) -> FetchRequest:
        return FetchRequest(
            destination=destination,
            limit=limit,
            limits=self._limits,
            site=self._store.site,
            key_ranges=self._key_ranges.setdefault(destination, KeyRanges()),
        )

    async def _fetch(self, request: FetchRequest) -> FetchResult:
        return await self._store.read(partial(fetch_deliveries, request=request))

    def _apply_writes(self, transaction: Transaction, destination: str, result: FetchResult) -> None:
        """Quarantine damaged events, create a reading batch."""
        for priority, sequence in result.damaged:
            # The row may be gone: another destination may have found the same damage.
            for row in transaction.rows(f"SELECT * FROM outbox_{priority} WHERE sequence = ?", sequence):  # noqa: S608 - an enum value
                self._store.quarantine(transaction, f"outbox_{priority}", row)
                if priority is Priority.READING:
                    reading_batches.drop_damaged_reading(transaction, sequence)
                else:
                    eviction.drop_for_all_destinations(transaction, priority, [sequence], DropReason.DAMAGED)
        reading_batches.create_batch(transaction, destination, self._ulid_fn)

    async def settle(
        self,
        destination: str,
        results: Sequence[tuple[Delivery, DeliveryResult]],
        *,
        also: Callable[[Transaction], None] | None = None,
    ) -> None:
        """Apply the results of deliveries; ``also`` and the ``on_settled`` callbacks run in the same transaction."""

        def change(transaction: Transaction) -> Sequence[tuple[Delivery, DeliveryResult]]:
            now = self._clock.now().timestamp()
            applied = settlement.settle_deliveries(transaction, destination, results, self._limits, now)
            for on_settled, _, _ in self._callbacks:
                for delivery, result in applied:
                    on_settled(transaction, destination, delivery, result)
            if also is not None:
                also(transaction)
            reading_batches.create_batch(transaction, destination, self._ulid_fn)
            return applied

        if not results:
            return
        self._record_results(destination, await self._store.write(change))

    def _record_results(self, destination: str, applied: Sequence[tuple[Delivery, DeliveryResult]]) -> None:
        """Update the in-memory state: retry times and bytes sent per priority."""
        backing_off = self._backing_off.setdefault(destination, {})
        sent = dict.fromkeys(Priority, 0)
        for delivery, result in applied:
            if isinstance(result, Failed):
                pause = exponential_delay(delivery.attempts + 1, 1, self._limits.longest_backoff)
                backing_off[delivery.priority, delivery.sequence] = self._clock.monotonic() + pause
                continue
            backing_off.pop((delivery.priority, delivery.sequence), None)
            self._unreachable.discard(destination)
            if isinstance(result, Delivered):
                sent[delivery.priority] += len(delivery.body)
        self._sent[destination] = add_sent_bytes(self._sent.get(destination, {}), sent)
        self._signal(destination).set()

    # Queries and rejected events

    async def depths(self) -> Depths:
        """Return the queue sizes and drop counts, read from counters."""
        return await self._store.read(lambda transaction: read_depths(transaction, self._context(transaction)))

    async def last_own_id_ms(self) -> int | None:
        """Return the time (ms since 1970) of the newest event id made by this gateway; later ids must be above it."""
        last = await self._store.read(lambda transaction: counters.read_counter(transaction, "own_id_ms"))
        return last or None

    async def rejected(self, after: int = 0) -> Sequence[RejectedEvent]:
        """Return the oldest 500 rejected events with a number above ``after``."""
        return await self._store.read(lambda transaction: rejected.list_rejected(transaction, after))

    async def send_again(self, numbers: Collection[int] | None = None) -> int:
        """Requeue rejected events (None: all), marked as replayed; return how many."""
        now = self._clock.now().timestamp()
        sent = await self._store.write(lambda transaction: rejected.requeue(transaction, numbers, now))
        self._wake_all()
        return sent

    async def discard_rejected(self, numbers: Collection[int] | None = None) -> int:
        """Delete rejected events (None: all); return how many."""
        return await self._store.write(lambda transaction: rejected.delete_rejected(transaction, numbers))

    def _signal(self, destination: str) -> asyncio.Event:
        if destination not in self._signals:
            self._signals[destination] = asyncio.Event()
            self._signals[destination].set()  # events may be pending since before this start
        return self._signals[destination]

    def _wake_all(self) -> None:
        for signal in self._signals.values():
            signal.set()
