"""Commits what messages brought, then acknowledges them, in their order."""

import asyncio
import contextlib
import logging
from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice

from process_cosmos_gateway.contract.destinations import Priority
from process_cosmos_gateway.errors import StoreError
from process_cosmos_gateway.outbox import DropReason, Outbox
from process_cosmos_gateway.store import Store, Transaction

from .mqtt.connection import Connection, Message
from .mqtt.redelivery import ReceivedMessages
from .repository import keep_messages

_LOGGER = logging.getLogger(__name__)

MOST_BYTES = 4_000_000
"""What waits to be written may take so much; then measurements make room."""

_MOST_BYTES_OF_CHANGES = 4 * MOST_BYTES
_BYTES_OF_MESSAGE = 200
_AT_ONCE = 500
_BYTES_AT_ONCE = 32 * 1024
"""Payloads of one transaction, which an alarm's commit waits behind: SenML of so many bytes has up to 4,000 records."""
_RETRY_SECONDS = 1.0

type Change = Callable[[Transaction], object]


@dataclass(frozen=True, slots=True, kw_only=True)
class Arrival:
    """A message and what is to be written for it, ``session``: our name for the broker's session at that time.

    ``mark``: what tells the message from others of its session, None with QoS 0. ``is_reading``: nothing but a
    reading comes of it.
    """

    connection: Connection
    message: Message
    session: str
    mark: bytes | None = None
    changes: Sequence[Change] = field(default=())
    is_reading: bool = False

    @property
    def cost(self) -> int:
        """Return what it takes while it waits, in bytes, roughly."""
        return _BYTES_OF_MESSAGE + len(self.message.payload)


class MessageWriter:
    """Writes arrivals in order, all that wait in one transaction; acknowledges in order, after the commit.

    A measurement waits for the next commit, for ``linger`` seconds at most, and may be acknowledged meanwhile. Once one
    has waited for so long, whatever the reason, no other is acknowledged before it is on disk: a power cut never costs
    more than ``linger`` seconds of measurements, and nothing else.
    """

    def __init__(
        self, store: Store, outbox: Outbox, counts: Counter[str], linger: float, received: ReceivedMessages
    ) -> None:
        """Take where to write, where to count what there was no room for, and who is told of acknowledgements."""
        self._received = received
        self._store = store
        self._outbox = outbox
        self._counts = counts
        self._linger = linger
        self._news = asyncio.Event()
        self._number = 0
        self._waiting: dict[int, Arrival] = {}
        self._readings: deque[int] = deque()
        self._bytes = 0
        self._since = 0.0
        self._unacknowledged: deque[tuple[int, Arrival]] = deque()
        self._dropped: Counter[Priority] = Counter()
        self._commit: asyncio.Task[bool] | None = None
        self._committing_since: float | None = None
        self._taken = self._written = 0
        self._finishing = False

    def put(self, arrival: Arrival) -> None:
        """Take a message. The broker is not held back for what waits here: the oldest measurements make room."""
        self._number += 1
        self._unacknowledged.append((self._number, arrival))
        if arrival.changes:
            self._wait(self._number, arrival)
        self._acknowledge()

    async def run(self) -> None:
        """Write and acknowledge, until cancelled; then ``finish``."""
        while True:
            await self._until_due()
            self._commit = asyncio.create_task(self._commit_next(), name="devices: commit")
            await asyncio.shield(self._commit)

    async def finish(self) -> None:
        """Write what was acknowledged already, now that nothing comes any more. A disk that fails is not waited for."""
        self._finishing = True
        # Nothing is written that came after what is not: the broker gives those changes out again, in order.
        goes_on = self._commit is None or await self._commit
        while goes_on and self._waiting:
            goes_on = await self._commit_next()

    def _wait(self, number: int, arrival: Arrival) -> None:
        if not self._waiting:
            self._since = self._now()
        self._waiting[number] = arrival
        self._bytes += arrival.cost
        if arrival.is_reading:
            self._readings.append(number)
        while self._bytes > MOST_BYTES and self._readings:
            self._drop(self._readings.popleft(), Priority.READING)
        if self._bytes > _MOST_BYTES_OF_CHANGES and not arrival.message.qos:
            self._drop(number, Priority.CHANGE)
        if len(self._waiting) == 1 or self._is_due():
            self._news.set()

    def _drop(self, number: int, priority: Priority) -> None:
        self._bytes -= self._waiting.pop(number).cost
        self._dropped[priority] += 1
        self._counts["dropped"] += 1

    def _now(self) -> float:
        return asyncio.get_running_loop().time()

    async def _until_due(self) -> None:
        while not self._is_due():
            self._news.clear()
            left = self._since + self._linger - self._now() if self._waiting else None
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._news.wait(), left)

    def _is_due(self) -> bool:
        if not self._waiting:
            return False
        is_urgent = len(self._waiting) > len(self._readings) or len(self._waiting) >= _AT_ONCE
        return is_urgent or self._now() >= self._since + self._linger

    async def _commit_next(self) -> bool:
        """Return once a batch is on disk: what is not must not be acknowledged, so a failing disk is waited for.

        False: it is not, for nobody waits any more.
        """
        numbers = self._next_numbers()
        self._taken = numbers[-1]
        batch = [self._waiting.pop(number) for number in numbers]
        while self._readings and self._readings[0] <= self._taken:
            self._readings.popleft()
        self._bytes -= sum(arrival.cost for arrival in batch)
        dropped, self._dropped = self._dropped, Counter()
        self._committing_since = self._since
        while not await self._write(batch, dropped):
            if self._finishing:
                return False
            await asyncio.sleep(_RETRY_SECONDS)
        self._committing_since = None
        self._written = self._taken
        self._acknowledge()
        return True

    def _next_numbers(self) -> list[int]:
        """Return the oldest that wait, as many as one transaction may take without holding up those of others."""
        numbers: list[int] = []
        room = _BYTES_AT_ONCE
        for number in islice(self._waiting, _AT_ONCE):
            room -= len(self._waiting[number].message.payload)
            if numbers and room < 0:
                break
            numbers.append(number)
        return numbers

    async def _write(self, batch: Sequence[Arrival], dropped: Mapping[Priority, int]) -> bool:
        unconfirmed = self._received.begin_commit()

        def change(transaction: Transaction) -> None:
            for priority, number in dropped.items():
                self._outbox.count_drop(transaction, priority, DropReason.QUOTA, number)
            _keep(transaction, batch, unconfirmed)

        try:
            await self._store.write(change)
        except StoreError as error:
            _LOGGER.warning("Device messages cannot be kept (%s); the broker holds them meanwhile", error)
            return False
        return True

    def _acknowledge(self) -> None:
        """Acknowledge from the oldest on: what is written, has nothing to write, or is a measurement in time."""
        oldest = self._since if self._committing_since is None else self._committing_since
        in_time = self._now() < oldest + self._linger
        while self._unacknowledged:
            number, arrival = self._unacknowledged[0]
            waits = number in self._waiting or self._written < number <= self._taken
            if waits and not (arrival.is_reading and in_time):
                return
            self._unacknowledged.popleft()
            if arrival.mark is None:
                continue
            if arrival.connection.acknowledge(arrival.message):
                self._received.acknowledged(arrival.mark)
            else:
                self._received.unacknowledged(arrival.mark)


def _keep(transaction: Transaction, batch: Sequence[Arrival], unconfirmed: Sequence[bytes]) -> None:
    """Write what the messages brought, with their marks and those of earlier ones the broker will send again."""
    for arrival in batch:
        for change in arrival.changes:
            change(transaction)
    session = batch[-1].session
    marks = [arrival.mark for arrival in batch if arrival.mark is not None and arrival.session == session]
    if marks:
        keep_messages(transaction, session, [*unconfirmed, *marks])
