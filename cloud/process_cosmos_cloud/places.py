"""How many requests of one site there are at a time: what a site can occupy of the endpoint's memory and time."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from http import HTTPStatus

from process_cosmos_gateway.contract.identifiers import Ulid

from .problems import ProblemError

MOST_REQUESTS = 2
"""Of one site: a gateway has one on its way; the one before it may hang on a connection that has died."""

RETRY_AFTER = 1


class GivenUpError(Exception):
    """A newer request of the site has taken the place of this one."""


class Place:
    """One request's place; while it only waits it can be taken by a newer request of its site."""

    def __init__(self) -> None:
        """Begin as one that works."""
        self._waiting: asyncio.Timeout | None = None

    @asynccontextmanager
    async def waiting(self) -> AsyncIterator[None]:
        """Wait, for a body or for news, inside the block; raises ``GivenUpError`` when the place was taken."""
        try:
            async with asyncio.timeout(None) as waiting:
                self._waiting = waiting
                yield
        except TimeoutError as error:
            if not waiting.expired():
                raise
            raise GivenUpError from error
        finally:
            self._waiting = None

    def take(self) -> bool:
        """End the request if it only waits; return whether it does."""
        if self._waiting is None:
            return False
        self._waiting.reschedule(asyncio.get_running_loop().time())
        self._waiting = None
        return True


class Places:
    """The places of all sites for one kind of request."""

    def __init__(self) -> None:
        """Begin with none taken."""
        self._taken: dict[Ulid, deque[Place]] = {}

    @asynccontextmanager
    async def one(self, site: Ulid) -> AsyncIterator[Place]:
        """Have a place inside the block; raise ``ProblemError`` (429) while all of the site's are at work."""
        places = self._taken.setdefault(site, deque())
        if len(places) >= MOST_REQUESTS:
            oldest = next((each for each in places if each.take()), None)
            if oldest is None:
                message = f"At most {MOST_REQUESTS} requests of a site at a time."
                raise ProblemError(HTTPStatus.TOO_MANY_REQUESTS, "too_many_requests", message, retry_after=RETRY_AFTER)
            places.remove(oldest)
        place = Place()
        places.append(place)
        try:
            yield place
        finally:
            if place in places:
                places.remove(place)
            if not places and self._taken.get(site) is places:
                del self._taken[site]
