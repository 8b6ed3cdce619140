"""Deletion of raw readings beyond their age and size limits."""

import asyncio
import logging
from collections import Counter
from dataclasses import dataclass
from functools import partial

from process_cosmos_gateway.clock import Clock
from process_cosmos_gateway.errors import StoreError
from process_cosmos_gateway.outbox import Outbox
from process_cosmos_gateway.store import Store, Transaction

from .readings import READING_DAYS, delete_old, delete_oldest, delete_withdrawn, stored_bytes

_LOGGER = logging.getLogger(__name__)

MAX_WITHDRAWN = 1000
"""Withdrawn devices whose readings stay: devices that come and go under new names must not fill the tables."""

_CHECK_SECONDS = 10.0
_MAX_CHECK_SHARE = 0.01
"""The largest share of the time spent on checks: each reads all properties."""

_CLEANUP_SECONDS = 3600.0
_TARGET_SHARE = 0.95
_FREE_RESERVES = 4
"""Disk reserves that readings leave free: one more than the outbox requires to accept readings."""


def history_quota(max_bytes: float, free: float, reserve: float, used: float) -> float:
    """Return the bytes that readings may use; ``max_bytes``: the configured limit, ``used``: their bytes now.

    The quota shrinks by what is missing to ``_FREE_RESERVES`` free reserves.
    """
    missing = _FREE_RESERVES * reserve - free
    return max_bytes if missing <= 0 else min(max_bytes, max(0.0, used - missing))


@dataclass(eq=False, repr=False)
class Retention:
    """Deletion of readings that are old or above ``max_bytes``, the oldest first; counted as ``readings_forgotten``."""

    store: Store
    outbox: Outbox
    clock: Clock
    counts: Counter[str]
    max_bytes: float

    async def run(self) -> None:
        """Enforce the quota about every 10 seconds, and delete old readings every hour, until cancelled."""
        cleanup_at = self.clock.monotonic()
        while True:
            began = self.clock.monotonic()
            try:
                if began >= cleanup_at:
                    cleanup_at = began + _CLEANUP_SECONDS
                    await self.delete_expired()
                    began = self.clock.monotonic()
                await self.enforce_quota()
            except StoreError as error:
                _LOGGER.warning("Old readings could not be deleted (%s); retrying", error)
            await asyncio.sleep(max(_CHECK_SECONDS, (self.clock.monotonic() - began) / _MAX_CHECK_SHARE))

    async def delete_expired(self) -> None:
        """Delete old readings and those of too many withdrawn devices, in batches; raise ``StoreError``."""
        while (deleted := await self.store.write(partial(delete_withdrawn, most=MAX_WITHDRAWN))) is not None:
            self.counts["readings_forgotten"] += deleted
        now = self.clock.now().timestamp()
        after: int | None = 0
        while after is not None:
            after = await self.store.write(
                partial(delete_old, before=now - READING_DAYS * 86_400, now=now, after=after)
            )
        await self.outbox.delete_unused_series()

    async def enforce_quota(self) -> None:
        """Delete the oldest readings while all together exceed the quota; raise ``StoreError``."""
        used, quota = await self.store.read(self._measure)
        # Delete a little more than required, or a full history would delete something at every check.
        target = min(quota, self.max_bytes * _TARGET_SHARE)
        while used > quota:
            deleted = await self.store.write(delete_oldest)
            # The byte counters may be too high; without readings left to delete, this would loop for ever.
            if not deleted:
                return
            self.counts["readings_forgotten"] += deleted
            used, quota = await self.store.read(stored_bytes), target

    def _measure(self, transaction: Transaction) -> tuple[float, float]:
        """Return the bytes that readings use, and their quota."""
        used, free = stored_bytes(transaction), self.store.writable(transaction)
        return used, history_quota(self.max_bytes, free, self.store.space.reserve, used)
