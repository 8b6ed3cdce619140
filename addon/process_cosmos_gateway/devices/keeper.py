"""Commits what messages brought, then acknowledges them, in their order."""

import asyncio
import logging
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from hashlib import sha256

from process_cosmos_gateway.errors import StoreError
from process_cosmos_gateway.store import Store, Transaction

from .memory import is_known_message, keep_messages
from .mqtt import Connection, Message

_LOGGER = logging.getLogger(__name__)

_RETRY_SECONDS = 1.0

type Change = Callable[[Transaction], object]


@dataclass(frozen=True, slots=True, kw_only=True)
class Arrival:
    """A message and what is to be written for it, ``session``: our name for the broker's session at that time."""

    connection: Connection
    message: Message
    session: str
    changes: Sequence[Change] = field(default=())

    @property
    def digest(self) -> bytes:
        """Return what, with session and message id, tells this message from others."""
        return digest(self.message)


def digest(message: Message) -> bytes:
    """Return a hash of topic and payload."""
    return sha256((message.topic or "").encode() + b"\0" + message.payload).digest()[:16]


class Keeper:
    """Writes arrivals in order, all that wait in one transaction; acknowledges after the commit."""

    def __init__(self, store: Store, counts: Counter[str]) -> None:
        """Take where to write, and where to count repeats."""
        self._store = store
        self._counts = counts
        self._arrivals: asyncio.Queue[Arrival] = asyncio.Queue()

    @property
    def waiting(self) -> int:
        """How many messages are not yet on disk."""
        return self._arrivals.qsize()

    def put(self, arrival: Arrival) -> None:
        """Take a message; it is acknowledged once it is on disk."""
        self._arrivals.put_nowait(arrival)

    async def run(self) -> None:
        """Write and acknowledge, for ever."""
        while True:
            batch = [await self._arrivals.get()]
            while not self._arrivals.empty():
                batch.append(self._arrivals.get_nowait())
            await self._commit(batch)
            for arrival in batch:
                arrival.connection.acknowledge(arrival.message)

    async def _commit(self, batch: Sequence[Arrival]) -> None:
        """Return once ``batch`` is on disk: what is not must not be acknowledged, so a failing disk is waited for."""
        if not any(arrival.changes for arrival in batch):
            return
        while True:
            try:
                self._counts["repeats"] += await self._store.write(lambda transaction: _keep(transaction, batch))
            except StoreError as error:
                _LOGGER.warning("Device messages cannot be kept (%s); the broker holds them meanwhile", error)
                await asyncio.sleep(_RETRY_SECONDS)
            else:
                return


def _keep(transaction: Transaction, batch: Sequence[Arrival]) -> int:
    """Write what is new; return how many messages were known."""
    repeats = 0
    for arrival in batch:
        message = arrival.message
        if not arrival.changes:
            continue
        if message.redelivered and is_known_message(transaction, arrival.session, message.number, arrival.digest):
            repeats += 1
            continue
        for change in arrival.changes:
            change(transaction)
        if message.qos:
            keep_messages(transaction, arrival.session, [(message.number, arrival.digest)])
    return repeats
