"""A webhook receiver that passes on what it accepts, and misbehaves on command."""

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from http import HTTPStatus
from typing import Any

import orjson
from aiohttp import web

from .http_server import MisbehavingEndpoint, listening
from .processes import LOCAL

PATH = "/hook"


class WebhookReceiver(MisbehavingEndpoint):
    """Calls ``take_event`` with each accepted CloudEvent and whether its id is new; other paths are not found."""

    def __init__(self, take_event: Callable[[Mapping[str, Any], bool], None]) -> None:
        """Prepare the receiver without listening."""
        self._take_event = take_event
        self._known: set[str] = set()

    @property
    def url(self) -> str:
        """Where events are posted, without a proxy."""
        return f"http://{LOCAL}:{self.port}{PATH}"

    @asynccontextmanager
    async def listening(self) -> AsyncIterator[int]:
        """Listen on a free port of 127.0.0.1 inside the block; yield the port."""
        app = web.Application(client_max_size=16 << 20)
        app.router.add_post(PATH, self._post)
        async with listening(app) as self.port:
            yield self.port

    async def _post(self, request: web.Request) -> web.StreamResponse:
        body = await request.read()

        async def accept() -> web.StreamResponse:
            event = orjson.loads(body)
            fresh = event["id"] not in self._known
            self._known.add(event["id"])
            self._take_event(event, fresh)
            return web.Response(status=HTTPStatus.ACCEPTED)

        return await self.answer(self.misbehave, request, body, accept)
