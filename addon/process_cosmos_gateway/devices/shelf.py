"""Keeps the raw readings within their days and bytes, as long as ``run`` runs."""

import asyncio
import logging
from collections import Counter
from functools import partial

from process_cosmos_gateway.clock import Clock
from process_cosmos_gateway.errors import StoreError
from process_cosmos_gateway.store import Store

from .readings import READING_DAYS, forget_old, forget_oldest, takes_more

_LOGGER = logging.getLogger(__name__)

_LOOK_SECONDS = 60.0
_LOOKS_AN_HOUR = 60
_ROOM = 0.95


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
        most = self._most
        while await self._store.read(partial(takes_more, most=most)):
            gone = await self._store.write(forget_oldest)
            if not gone:
                return
            self._counts["readings_forgotten"] += gone
            most = self._most * _ROOM
