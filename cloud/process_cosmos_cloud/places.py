"""How many requests of one site there are at a time: what a site can occupy of the endpoint's memory and time."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from http import HTTPStatus

from process_cosmos_gateway.contract.identifiers import Ulid

from .problems import ProblemError


class SupersededError(ProblemError):
    """A newer request of the site goes on in place of this one."""

    def __init__(self) -> None:
        """Answer 503 and close the connection: nobody waits for the reply."""
        message = "The site goes on by a newer connection."
        super().__init__(HTTPStatus.SERVICE_UNAVAILABLE, "superseded", message, closing=True)


class Place:
    """One request's place; while it only waits it can be ended in favour of a newer request of its site."""

    def __init__(self) -> None:
        """Begin as one that does not wait."""
        self.moved = asyncio.Event()
        self._waiting: asyncio.Timeout | None = None

    @asynccontextmanager
    async def waiting(self) -> AsyncIterator[None]:
        """Wait, for a body or for news, inside the block; raises ``SupersededError`` when it was ended meanwhile."""
        try:
            async with asyncio.timeout(None) as waiting:
                self._waiting = waiting
                yield
            if self._waiting is None:  # what it waited for came before it was cancelled
                raise SupersededError
        except TimeoutError as error:
            if not waiting.expired():
                raise
            raise SupersededError from error
        finally:
            self._waiting = None

    @property
    def is_waiting(self) -> bool:
        """Whether it can be ended."""
        return self._waiting is not None

    def end(self) -> None:
        """End a request that waits."""
        if self._waiting is not None:
            self._waiting.reschedule(asyncio.get_running_loop().time())
            self._waiting = None


class Places:
    """The places of all sites for one kind of request."""

    def __init__(self, most: int) -> None:
        """Let each site have ``most`` requests at a time."""
        self._most = most
        self._held: dict[Ulid, list[Place]] = {}

    @asynccontextmanager
    async def one(self, site: Ulid) -> AsyncIterator[Place]:
        """Have a place inside the block.

        Where all are taken, the oldest request that only waits is ended; if all are at work, this one waits for them.
        """
        held, place = self._held.setdefault(site, []), Place()
        while len(held) >= self._most and (oldest := next((each for each in held if each.is_waiting), None)):
            oldest.end()
            held.remove(oldest)
        held.append(place)
        try:
            async with place.waiting():
                while place in held[self._most :]:
                    place.moved.clear()
                    await place.moved.wait()
            yield place
        finally:
            if place in held:
                held.remove(place)
            for each in held:
                each.moved.set()
            if not held and self._held.get(site) is held:
                del self._held[site]
