"""Limits the concurrent requests of each site, and so its share of the endpoint's memory and time."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from http import HTTPStatus

from process_cosmos_gateway.contract.identifiers import Ulid

from .problems import ProblemError


class SupersededError(ProblemError):
    """A newer request of the site has replaced this one."""

    def __init__(self) -> None:
        """Answer 503 and close the connection, as the site no longer waits for the reply."""
        message = "A newer request of the site has replaced this one."
        super().__init__(HTTPStatus.SERVICE_UNAVAILABLE, "superseded", message, closing=True)


class RequestSlot:
    """The slot of one request; while the request only waits, a newer one of its site can take its place."""

    def __init__(self) -> None:
        """Begin as a request that does not wait."""
        self.changed = asyncio.Event()
        self._waiting: asyncio.Timeout | None = None

    @asynccontextmanager
    async def interruptible(self) -> AsyncIterator[None]:
        """Allow the request to be ended inside the block, while it waits for a body or for news.

        Raises ``SupersededError`` if it was ended.
        """
        try:
            async with asyncio.timeout(None) as waiting:
                self._waiting = waiting
                yield
            if self._waiting is None:  # ended, but the block finished before the cancellation
                raise SupersededError
        except TimeoutError as error:
            if not waiting.expired():
                raise
            raise SupersededError from error
        finally:
            self._waiting = None

    @property
    def is_waiting(self) -> bool:
        """Whether the request waits, so that it can be ended."""
        return self._waiting is not None

    def end(self) -> None:
        """End the request if it waits."""
        if self._waiting is not None:
            self._waiting.reschedule(asyncio.get_running_loop().time())
            self._waiting = None


class RequestSlots:
    """The slots of all sites for one kind of request."""

    def __init__(self, most: int) -> None:
        """Allow each site ``most`` concurrent requests."""
        self._most = most
        self._held: dict[Ulid, list[RequestSlot]] = {}

    @asynccontextmanager
    async def acquire(self, site: Ulid) -> AsyncIterator[RequestSlot]:
        """Occupy a slot inside the block.

        If all are occupied, the oldest request that only waits is ended; if none waits, this one waits for a slot.
        """
        held, slot = self._held.setdefault(site, []), RequestSlot()
        while len(held) >= self._most and (oldest := next((each for each in held if each.is_waiting), None)):
            oldest.end()
            # At once: the ended request gives up its slot only when the event loop resumes it.
            held.remove(oldest)
        held.append(slot)
        try:
            async with slot.interruptible():
                while slot in held[self._most :]:
                    slot.changed.clear()
                    await slot.changed.wait()
            yield slot
        finally:
            if slot in held:
                held.remove(slot)
            for each in held:
                each.changed.set()
            if not held and self._held.get(site) is held:
                del self._held[site]
