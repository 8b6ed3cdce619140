"""Selection of the readings to forward to destinations, in the transaction that stores them."""

import asyncio
import logging
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace

import orjson

from process_cosmos_gateway.clock import Clock
from process_cosmos_gateway.contract.destinations import EventKind, Priority
from process_cosmos_gateway.contract.identifiers import join_names
from process_cosmos_gateway.devices.counters import read_counter, set_counter
from process_cosmos_gateway.devices.repository import property_number
from process_cosmos_gateway.errors import StoreError
from process_cosmos_gateway.options import MEGABYTE, ReadingOptions, VolumeRule
from process_cosmos_gateway.outbox import DropReason, Outbox, OutgoingReading
from process_cosmos_gateway.store import Store, Transaction

from . import pending_readings
from .downsampling import Point, add_to_window, filter_point, release_due, rule_for
from .pending_readings import Series

_LOGGER = logging.getLogger(__name__)

_DAY = 86_400.0
_CHECK_SECONDS = 1.0
_LONGEST_WAIT = 10.0
"""Seconds after which the wall clock, on which due times depend, is read again: it may be set."""


class Forwarding:
    """Downsampling by the volume rules, and the daily byte budget.

    Held points, the point forwarded last and the bytes used today are stored with the readings, so none is lost or
    forwarded twice. Readings dropped by a rule are counted as ``thinned``; those above the budget as drops of the
    outbox.
    """

    def __init__(self, outbox: Outbox, clock: Clock, options: ReadingOptions, counts: Counter[str]) -> None:
        """Use the rules and the budget of ``options``; ``counts`` gets ``thinned``."""
        self._outbox = outbox
        self._clock = clock
        self._rules = options.volume
        self._daily_bytes = None if options.daily_mb is None else options.daily_mb * MEGABYTE
        self._counts = counts
        self._held = asyncio.Event()

    def add(self, transaction: Transaction, series: Series, points: Sequence[Point], received: float) -> None:
        """Forward, hold or drop new readings. Does nothing if no destination subscribes to readings."""
        if not self._outbox.has_subscriber(transaction, EventKind.READING):
            return
        batch = self._new_batch(transaction)
        rule = rule_for(self._rules, series.device, series.name)
        if rule is not None:
            transaction.after_commit(self._held.set)
        if rule is None or rule.aggregate is None:
            self._forward(transaction, series, rule, points, batch)
        else:
            number = property_number(transaction, series.device, series.name)
            for point in points:
                window = pending_readings.load_window(transaction, number, rule, point)
                pending_readings.store_window(
                    transaction, number, series, rule, add_to_window(window, rule, point, received)
                )
                self._count_thinned(transaction, int(window is not None))
        batch.enqueue(self._outbox)

    async def run(self, store: Store) -> None:
        """Forward held readings when they are due; return once no rule is set and nothing is held."""
        while True:
            self._held.clear()
            try:
                wait = await self._forward_all_due(store)
            except StoreError as error:
                _LOGGER.warning("Held readings could not be forwarded (%s). They stay stored; retrying", error)
                wait = 0.0
            if wait is None and not self._rules:
                return
            await asyncio.sleep(_CHECK_SECONDS)
            with suppress(TimeoutError):
                async with asyncio.timeout(wait):
                    await self._held.wait()

    async def _forward_all_due(self, store: Store) -> float | None:
        """Forward what is due; return the seconds to wait for the next due reading, None if nothing is held."""
        while (left := await store.read(self._seconds_to_next)) is not None and left <= 0:
            # Due rows that cannot be handled must not keep the writer thread busy: look again later.
            if not await store.write(self.forward_due):
                break
        return left

    def forward_due(self, transaction: Transaction) -> int:
        """Forward a batch of the due readings; return the number of properties and windows handled."""
        now, batch = self._clock.now().timestamp(), self._new_batch(transaction)
        due_filters = pending_readings.load_due_filters(transaction, now, self._longest_interval)
        windows = pending_readings.pop_due_windows(transaction, now)
        for number, series in due_filters:
            before = pending_readings.load_filter_states(transaction, number)
            after, points = release_due(before, now, self._longest_interval)
            pending_readings.store_filter_states(transaction, number, series, before, after)
            rule = rule_for(self._rules, series.device, series.name)
            # The interval has passed for these points; deadband and budget still apply.
            self._forward(transaction, series, rule and replace(rule, every=0.0), points, batch)
        for series, point in windows:
            rule = rule_for(self._rules, series.device, series.name)
            self._forward(transaction, series, rule, [point], batch)
        batch.enqueue(self._outbox)
        return len(due_filters) + len(windows)

    def _seconds_to_next(self, transaction: Transaction) -> float | None:
        now = self._clock.now().timestamp()
        due = pending_readings.next_due(transaction, now, self._longest_interval)
        return None if due is None else min(due - now, _LONGEST_WAIT)

    @property
    def _longest_interval(self) -> float:
        return max((rule.every for rule in self._rules), default=0.0)

    def _forward(
        self,
        transaction: Transaction,
        series: Series,
        rule: VolumeRule | None,
        points: Sequence[Point],
        batch: _ForwardBatch,
    ) -> None:
        """Apply deadband and interval, then the budget.

        A point above the budget does not count as forwarded: the next one is compared with the point before it.
        """
        if rule is None or not (rule.deadband or rule.every):
            for point in points:
                batch.add(series, point)
            return
        number = property_number(transaction, series.device, series.name)
        states = before = pending_readings.load_filter_states(transaction, number)
        now = self._clock.now().timestamp()
        thinned = 0
        for point in points:
            after, is_forwarded = filter_point(states, rule, point, now)
            if not is_forwarded or batch.add(series, point):
                # A point is counted once its fate is known: not while it is held, but when another replaces it.
                thinned += 1 - is_forwarded - (after.held_count - states.held_count)
                states = after
        pending_readings.store_filter_states(transaction, number, series, before, states)
        self._count_thinned(transaction, thinned)

    def _count_thinned(self, transaction: Transaction, count: int) -> None:
        if count:
            transaction.after_commit(lambda: self._counts.update(thinned=count))

    def _new_batch(self, transaction: Transaction) -> _ForwardBatch:
        return _ForwardBatch(transaction, self._clock.now().timestamp() // _DAY, self._daily_bytes)


class _ForwardBatch:
    """The readings forwarded by one transaction, limited to what is left of the daily budget."""

    def __init__(self, transaction: Transaction, today: float, daily_bytes: float | None) -> None:
        self._transaction = transaction
        self._today = today
        self._daily_bytes = daily_bytes
        self._spent = 0.0
        if daily_bytes is not None and read_counter(transaction, "budget_day") == today:
            self._spent = read_counter(transaction, "budget_bytes")
        self._accepted: list[OutgoingReading] = []
        self._held_back = 0

    def add(self, series: Series, point: Point) -> bool:
        """Add a reading; return False if the daily budget is used up."""
        record = {
            "n": join_names(series.device, series.name),
            "t": point.time,
            "u": series.unit or "",
            "v": point.value,
        }
        # The budget counts the bytes a destination receives: a SenML record and its comma.
        spent = self._spent + len(orjson.dumps(record)) + 1
        if self._daily_bytes is not None and spent > self._daily_bytes:
            self._held_back += 1
            return False
        self._spent = spent
        self._accepted.append(
            OutgoingReading(
                device=series.device, property=series.name, unit=series.unit, time=point.time, value=point.value
            )
        )
        return True

    def enqueue(self, outbox: Outbox) -> None:
        """Enqueue the added readings, count those above the budget, and store the bytes used today."""
        outbox.add_readings(self._transaction, self._accepted)
        outbox.count_drop(self._transaction, Priority.READING, DropReason.VOLUME, self._held_back)
        if self._daily_bytes is not None and self._accepted:
            set_counter(self._transaction, "budget_day", self._today)
            set_counter(self._transaction, "budget_bytes", self._spent)
