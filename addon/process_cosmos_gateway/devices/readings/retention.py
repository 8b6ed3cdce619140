"""Keeps the raw readings within their days and bytes, as long as ``run`` runs."""

import asyncio
import logging
from collections import Counter
from functools import partial

from process_cosmos_gateway.clock import Clock
from process_cosmos_gateway.errors import StoreError
from process_cosmos_gateway.outbox import Outbox
from process_cosmos_gateway.store import Store, Transaction

from .readings import READING_DAYS, bytes_taken, forget_old, forget_oldest, forget_withdrawn

_LOGGER = logging.getLogger(__name__)

MOST_WITHDRAWN = 1000
"""Withdrawn devices that keep their readings: those that come and go under new names must not fill the tables."""

_LOOK_SECONDS = 10.0
_LOOK_COST = 0.01
"""The part of the time a look may take: it reads all properties."""

_AN_HOUR = 3600.0
_ROOM = 0.95
_RESERVES = 4
"""Reserves that readings leave free: one more than the outbox asks for to take readings that are to be sent."""


def history_quota(most: float, free: float, reserve: float, taken: float) -> float:
    """Return the bytes that readings may take, which take ``taken`` now; ``most``: the option.

    They give way as far as ``_RESERVES`` reserves are not free any more.
    """
    missing = _RESERVES * reserve - free
    return most if missing <= 0 else min(most, max(0.0, taken - missing))


class Retention:
    """Forgets what is too old, and the oldest of what is too much; that is counted as ``readings_forgotten``."""

    def __init__(self, store: Store, outbox: Outbox, clock: Clock, counts: Counter[str], most: float) -> None:
        """Take where readings are and where they leave, and how many bytes they may take at ``most``."""
        self._store = store
        self._outbox = outbox
        self._clock = clock
        self._counts = counts
        self._most = most

    async def run(self) -> None:
        """Make room every 10 seconds, forget what is old every hour, until cancelled."""
        tidy_at = self._clock.monotonic()
        while True:
            began = self._clock.monotonic()
            try:
                if began >= tidy_at:
                    tidy_at = began + _AN_HOUR
                    await self.tidy()
                    began = self._clock.monotonic()
                await self.make_room()
            except StoreError as error:
                _LOGGER.warning("Old readings stay for now: %s", error)
            await asyncio.sleep(max(_LOOK_SECONDS, (self._clock.monotonic() - began) / _LOOK_COST))

    async def tidy(self) -> None:
        """Forget what is too old and what too many withdrawn devices left, a bite a commit; raise ``StoreError``."""
        while (gone := await self._store.write(partial(forget_withdrawn, most=MOST_WITHDRAWN))) is not None:
            self._counts["readings_forgotten"] += gone
        now = self._clock.now().timestamp()
        after: int | None = 0
        while after is not None:
            after = await self._store.write(
                partial(forget_old, before=now - READING_DAYS * 86_400, now=now, after=after)
            )
        await self._outbox.delete_unused_series()

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
