"""Storing of message changes in batches, and acknowledgement of the messages in the order of receipt."""

import asyncio
import contextlib
import logging
from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice

from process_cosmos_gateway.contract.destinations import Priority
from process_cosmos_gateway.errors import StoreError
from process_cosmos_gateway.outbox import DropReason, Outbox
from process_cosmos_gateway.store import Store, Transaction

from .mqtt.connection import Connection, Message
from .mqtt.redelivery import ReceivedMessages
from .repository import store_message_marks

_LOGGER = logging.getLogger(__name__)

MAX_PENDING_BYTES = 4_000_000
"""Size of all pending writes, in bytes, above which the oldest pending readings are dropped."""

_MAX_PENDING_CHANGE_BYTES = 4 * MAX_PENDING_BYTES
_MESSAGE_OVERHEAD_BYTES = 200
_MAX_BATCH_MESSAGES = 500
_MAX_BATCH_BYTES = 32 * 1024
"""Payload bytes in one transaction. An urgent event's commit waits for it: so much SenML has up to 4,000 records."""
_RETRY_SECONDS = 1.0

type Change = Callable[[Transaction], object]


@dataclass(frozen=True, slots=True)
class MessageChanges:
    """The changes to store for a message. ``is_reading``: they are only readings of a number."""

    changes: Sequence[Change] = ()
    is_reading: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class PendingWrite:
    """A message and what to store for it.

    ``session``: the name of the broker session at the time of receipt. ``mark``: identifies the message within its
    session; None with QoS 0.
    """

    connection: Connection
    message: Message
    session: str
    stored: MessageChanges
    mark: bytes | None = None

    @property
    def size(self) -> int:
        """Return the approximate size in memory, in bytes."""
        return _MESSAGE_OVERHEAD_BYTES + len(self.message.payload)


class MessageWriter:
    """Group commit of pending writes; messages are acknowledged in order of receipt, after the commit.

    A reading waits for the next commit, at most ``linger`` seconds, and may be acknowledged in the meantime. Once the
    oldest has waited that long, for whatever reason, no other reading is acknowledged before it is on disk. So a power
    failure costs at most the readings of the last ``linger`` seconds, and nothing else.
    """

    def __init__(
        self, store: Store, outbox: Outbox, counts: Counter[str], linger: float, received: ReceivedMessages
    ) -> None:
        """Use these components; ``counts`` gets dropped messages, ``received`` every acknowledgement."""
        self._received = received
        self._store = store
        self._outbox = outbox
        self._counts = counts
        self._linger = linger
        self._wakeup = asyncio.Event()
        self._last_number = 0
        self._pending: dict[int, PendingWrite] = {}
        self._pending_readings: deque[int] = deque()
        self._pending_bytes = 0
        self._oldest_at = 0.0
        self._unacknowledged: deque[tuple[int, PendingWrite]] = deque()
        self._dropped: Counter[Priority] = Counter()
        self._commit: asyncio.Task[bool] | None = None
        self._committing_since: float | None = None
        self._last_taken = self._last_written = 0
        self._finishing = False

    def put(self, pending: PendingWrite) -> None:
        """Queue a message. Beyond the size limit the oldest readings are dropped; the broker is not slowed down."""
        self._last_number += 1
        self._unacknowledged.append((self._last_number, pending))
        if pending.stored.changes:
            self._add_pending(self._last_number, pending)
        self._acknowledge()

    async def run(self) -> None:
        """Commit and acknowledge until cancelled; call ``finish`` afterwards."""
        while True:
            await self._wait_until_due()
            self._commit = asyncio.create_task(self._commit_next(), name="devices: commit")
            # Cancelling must not abandon a commit: its messages are no longer pending, and `finish` awaits it.
            await asyncio.shield(self._commit)

    async def finish(self) -> None:
        """Commit what is pending, once no message arrives any more. Give up at the first failed commit."""
        self._finishing = True
        # After a failed commit nothing later may be stored: the broker sends the failed ones again, out of order then.
        succeeded = self._commit is None or await self._commit
        while succeeded and self._pending:
            succeeded = await self._commit_next()

    def _add_pending(self, number: int, pending: PendingWrite) -> None:
        if not self._pending:
            self._oldest_at = self._now()
        self._pending[number] = pending
        self._pending_bytes += pending.size
        if pending.stored.is_reading:
            self._pending_readings.append(number)
        while self._pending_bytes > MAX_PENDING_BYTES and self._pending_readings:
            self._drop(self._pending_readings.popleft(), Priority.READING)
        if self._pending_bytes > _MAX_PENDING_CHANGE_BYTES and not pending.message.qos:
            self._drop(number, Priority.CHANGE)
        if len(self._pending) == 1 or self._is_due():
            self._wakeup.set()

    def _drop(self, number: int, priority: Priority) -> None:
        self._pending_bytes -= self._pending.pop(number).size
        self._dropped[priority] += 1
        self._counts["dropped"] += 1

    def _now(self) -> float:
        return asyncio.get_running_loop().time()

    async def _wait_until_due(self) -> None:
        while not self._is_due():
            self._wakeup.clear()
            seconds = self._oldest_at + self._linger - self._now() if self._pending else None
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._wakeup.wait(), seconds)

    def _is_due(self) -> bool:
        if not self._pending:
            return False
        is_urgent = len(self._pending) > len(self._pending_readings) or len(self._pending) >= _MAX_BATCH_MESSAGES
        return is_urgent or self._now() >= self._oldest_at + self._linger

    async def _commit_next(self) -> bool:
        """Commit a batch; retry until it is on disk, because only then it may be acknowledged.

        Returns False, without the commit, if ``finish`` was called in the meantime.
        """
        numbers = self._next_batch()
        self._last_taken = numbers[-1]
        batch = [self._pending.pop(number) for number in numbers]
        while self._pending_readings and self._pending_readings[0] <= self._last_taken:
            self._pending_readings.popleft()
        self._pending_bytes -= sum(pending.size for pending in batch)
        dropped, self._dropped = self._dropped, Counter()
        self._committing_since = self._oldest_at
        while not await self._write(batch, dropped):
            if self._finishing:
                return False
            await asyncio.sleep(_RETRY_SECONDS)
        self._committing_since = None
        self._last_written = self._last_taken
        self._acknowledge()
        return True

    def _next_batch(self) -> list[int]:
        """Return the numbers of the oldest pending writes that fit into one transaction.

        The transaction is bounded so that it does not delay the commits of others.
        """
        numbers: list[int] = []
        bytes_left = _MAX_BATCH_BYTES
        for number in islice(self._pending, _MAX_BATCH_MESSAGES):
            bytes_left -= len(self._pending[number].message.payload)
            if numbers and bytes_left < 0:
                break
            numbers.append(number)
        return numbers

    async def _write(self, batch: Sequence[PendingWrite], dropped: Mapping[Priority, int]) -> bool:
        unconfirmed = self._received.begin_commit()

        def change(transaction: Transaction) -> None:
            for priority, count in dropped.items():
                self._outbox.count_drop(transaction, priority, DropReason.QUOTA, count)
            _apply_batch(transaction, batch, unconfirmed)

        try:
            await self._store.write(change)
        except StoreError as error:
            _LOGGER.warning(
                "Device messages could not be stored (%s). The broker keeps them; retrying every second",
                error,
            )
            return False
        return True

    def _acknowledge(self) -> None:
        """Acknowledge messages from the oldest on, up to the first that must be stored before.

        A message without changes needs no commit; a reading needs none within ``linger`` seconds.
        """
        # While a commit is retried, its own oldest message decides: those that arrived meanwhile are newer.
        oldest = self._oldest_at if self._committing_since is None else self._committing_since
        in_time = self._now() < oldest + self._linger
        # MQTT requires PUBACKs in the order of receipt (5.0, section 4.6): one uncommitted message delays all others.
        while self._unacknowledged:
            number, pending = self._unacknowledged[0]
            is_uncommitted = number in self._pending or self._last_written < number <= self._last_taken
            if is_uncommitted and not (pending.stored.is_reading and in_time):
                return
            self._unacknowledged.popleft()
            if pending.mark is None:
                continue
            if pending.connection.acknowledge(pending.message):
                self._received.acknowledged(pending.mark)
            else:
                # The broker sends it again although it is stored: its mark must survive a crash until then.
                self._received.unacknowledged(pending.mark)


def _apply_batch(transaction: Transaction, batch: Sequence[PendingWrite], unconfirmed: Sequence[bytes]) -> None:
    """Apply the changes of a batch, and store its marks with the ``unconfirmed`` ones of earlier commits."""
    for pending in batch:
        for change in pending.stored.changes:
            change(transaction)
    session = batch[-1].session
    # Packet ids of an earlier session mean nothing in this one: their marks could match other messages.
    marks = [pending.mark for pending in batch if pending.mark is not None and pending.session == session]
    if marks:
        store_message_marks(transaction, session, [*unconfirmed, *marks])
