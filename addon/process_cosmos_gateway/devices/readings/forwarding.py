"""What of a device's readings leaves the site, decided in the transaction that keeps them."""

import asyncio
import logging
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

import orjson

from process_cosmos_gateway.clock import Clock
from process_cosmos_gateway.contract.destinations import EventKind, Priority
from process_cosmos_gateway.contract.identifiers import join_names
from process_cosmos_gateway.devices.counters import counted, set_counter
from process_cosmos_gateway.devices.options import ReadingOptions, VolumeRule
from process_cosmos_gateway.devices.repository import property_number
from process_cosmos_gateway.errors import StoreError
from process_cosmos_gateway.options import MEGABYTE
from process_cosmos_gateway.outbox import DropReason, Outbox, OutgoingReading
from process_cosmos_gateway.store import Store, Transaction

from . import pending_readings
from .downsampling import Point, admit, folded, opened, rule_for
from .pending_readings import Series

_LOGGER = logging.getLogger(__name__)

_DAY = 86_400.0
_LOOK_SECONDS = 1.0


class Forwarding:
    """Thins readings as the rules say, and keeps to the day's bytes.

    What waits, what left last and what the day has cost are on disk with the readings: none is lost or leaves twice.
    What is thinned as asked is counted as ``thinned``; what the day's budget holds back is a drop of the outbox.
    """

    def __init__(self, outbox: Outbox, clock: Clock, options: ReadingOptions, counts: Counter[str]) -> None:
        """Take where readings go, what a person wants of them, and where to count."""
        self._outbox = outbox
        self._clock = clock
        self._rules = options.volume
        self._daily = None if options.daily_megabytes is None else options.daily_megabytes * MEGABYTE
        self._counts = counts

    def add(self, transaction: Transaction, series: Series, points: Sequence[Point], received: float) -> None:
        """Let new readings leave, wait or end here; nothing happens where no destination wants readings."""
        if not self._outbox.has_subscriber(transaction, EventKind.READING):
            return
        load = self._load(transaction)
        rule = rule_for(self._rules, series.device, series.name)
        if rule is None or rule.aggregate is None:
            self._pass(transaction, series, rule, points, load)
        else:
            number = property_number(transaction, series.device, series.name)
            for point in points:
                window = pending_readings.window(transaction, number, rule, point)
                pending_readings.keep_window(transaction, number, series, rule, folded(window, rule, point, received))
                self._thin(transaction, int(window is not None))
        load.leave(self._outbox)

    async def run(self, store: Store) -> None:
        """Let what waits leave in its time; return once nothing can wait any more."""
        while await store.read(self._may_wait):
            try:
                while await store.read(self._is_due):
                    if not await store.write(self.let_go):
                        break
            except StoreError as error:
                _LOGGER.warning("Readings that wait to leave go on waiting (%s)", error)
            await asyncio.sleep(_LOOK_SECONDS)

    def let_go(self, transaction: Transaction) -> int:
        """Let what is due leave, or some of it; return of how many properties and windows."""
        now, load = self._clock.now().timestamp(), self._load(transaction)
        gates = pending_readings.due_gates(transaction, now, self._longest)
        windows = pending_readings.take_due_windows(transaction, now)
        for number, series in gates:
            before = pending_readings.gates(transaction, number)
            after, points = opened(before, now, self._longest)
            pending_readings.keep_gates(transaction, number, series, before, after)
            rule = rule_for(self._rules, series.device, series.name)
            self._pass(transaction, series, rule and replace(rule, every=0.0), points, load)
        for series, point in windows:
            rule = rule_for(self._rules, series.device, series.name)
            self._pass(transaction, series, rule, [point], load)
        load.leave(self._outbox)
        return len(gates) + len(windows)

    def _may_wait(self, transaction: Transaction) -> bool:
        return bool(self._rules) or pending_readings.is_any(transaction)

    def _is_due(self, transaction: Transaction) -> bool:
        return pending_readings.is_due(transaction, self._clock.now().timestamp(), self._longest)

    @property
    def _longest(self) -> float:
        return max((rule.every for rule in self._rules), default=0.0)

    def _pass(
        self, transaction: Transaction, series: Series, rule: VolumeRule | None, points: Sequence[Point], load: _Load
    ) -> None:
        """Let points through the gates. One the budget holds back has not left: the next is compared with what did."""
        if rule is None or not (rule.deadband or rule.every):
            for point in points:
                load.take(series, point)
            return
        number = property_number(transaction, series.device, series.name)
        gates = before = pending_readings.gates(transaction, number)
        now = self._clock.now().timestamp()
        thinned = 0
        for point in points:
            after, leaves = admit(gates, rule, point, now)
            if not leaves or load.take(series, point):
                thinned += 1 - leaves - (after.waiting - gates.waiting)
                gates = after
        pending_readings.keep_gates(transaction, number, series, before, gates)
        self._thin(transaction, thinned)

    def _thin(self, transaction: Transaction, number: int) -> None:
        if number:
            transaction.after_commit(lambda: self._counts.update(thinned=number))

    def _load(self, transaction: Transaction) -> _Load:
        return _Load(transaction, self._clock.now().timestamp() // _DAY, self._daily)


class _Load:
    """What leaves in one transaction, within what the day has left."""

    def __init__(self, transaction: Transaction, today: float, daily: float | None) -> None:
        self._transaction = transaction
        self._today = today
        self._daily = daily
        self._spent = 0.0
        if daily is not None and counted(transaction, "budget_day") == today:
            self._spent = counted(transaction, "budget_bytes")
        self._taken: list[OutgoingReading] = []
        self._held_back = 0

    def take(self, series: Series, point: Point) -> bool:
        """Take a reading along, if the day's bytes allow."""
        record = {
            "n": join_names(series.device, series.name),
            "t": point.time,
            "u": series.unit or "",
            "v": point.value,
        }
        spent = self._spent + len(orjson.dumps(record)) + 1
        if self._daily is not None and spent > self._daily:
            self._held_back += 1
            return False
        self._spent = spent
        self._taken.append(
            OutgoingReading(
                device=series.device, property=series.name, unit=series.unit, time=point.time, value=point.value
            )
        )
        return True

    def leave(self, outbox: Outbox) -> None:
        """Queue what was taken, count what was held back, and note what the day has cost."""
        outbox.add_readings(self._transaction, self._taken)
        outbox.count_drop(self._transaction, Priority.READING, DropReason.VOLUME, self._held_back)
        if self._daily is not None and self._taken:
            set_counter(self._transaction, "budget_day", self._today)
            set_counter(self._transaction, "budget_bytes", self._spent)
