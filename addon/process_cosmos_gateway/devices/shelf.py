"""Keeps the raw readings within their days and bytes, as long as ``run`` runs."""

import asyncio
import logging
from collections import Counter
from functools import partial

from process_cosmos_gateway.clock import Clock
from process_cosmos_gateway.errors import StoreError
from process_cosmos_gateway.store import Store, Transaction

from .readings import READING_DAYS, bytes_taken, forget_old, forget_oldest

_LOGGER = logging.getLogger(__name__)

_LOOK_SECONDS = 10.0
_LOOKS_AN_HOUR = 360
_ROOM = 0.95
_RESERVES = 4
"""Reserves that readings leave free: one more than the outbox asks for to take readings that are to be sent."""


def history_quota(most: float, free: float, reserve: float, taken: float) -> float:
    """Return the bytes that readings may take, which take ``taken`` now; ``most``: the option.

    They give way as far as ``_RESERVES`` reserves are not free any more.
    """
    missing = _RESERVES * reserve - free
    return most if missing <= 0 else min(most, max(0.0, taken - missing))


class Shelf:
    """Forgets what is too old, and the oldest of what is too much; that is counted as ``readings_forgotten``."""

    def __init__(self, store: Store, clock: Clock, counts: Counter[str], most: float) -> None:
        """Take where readings are, and how many bytes they may take at ``most``."""
        self._store = store
        self._clock = clock
        self._counts = counts
        self._most = most

    async def run(self) -> None:
        """Look, for ever."""
        looks = 0
        while True:
            try:
                if looks % _LOOKS_AN_HOUR == 0:
                    now = self._clock.now().timestamp()
                    await self._store.write(partial(forget_old, before=now - READING_DAYS * 86_400, now=now))
                await self.make_room()
            except StoreError as error:
                _LOGGER.warning("Old readings stay for now: %s", error)
            looks += 1
            await asyncio.sleep(_LOOK_SECONDS)

    async def make_room(self) -> None:
        """Forget the oldest readings if all take more than they may; raise ``StoreError``."""
        taken, quota = await self._store.read(self._look)
        target = min(quota, self._most * _ROOM)
        while taken > quota:
            gone = await self._store.write(forget_oldest)
            if not gone:
                return
            self._counts["readings_forgotten"] += gone
            taken, quota = await self._store.read(bytes_taken), target

    def _look(self, transaction: Transaction) -> tuple[float, float]:
        """Return the bytes that readings take, and those that they may take."""
        taken, free = bytes_taken(transaction), self._store.writable(transaction)
        return taken, history_quota(self._most, free, self._store.space.reserve, taken)
