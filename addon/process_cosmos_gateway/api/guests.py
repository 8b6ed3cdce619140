"""The doors for local programs: who comes in, and how many at a time."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from functools import partial
from http import HTTPStatus
from pathlib import Path
from typing import cast

from aiohttp import web

from process_cosmos_gateway.contract.errors import Code
from process_cosmos_gateway.contract.producers import MOST_CONNECTIONS
from process_cosmos_gateway.listener import LISTENER

from .programs import is_known
from .replies import problem_reply

BEARER = "Bearer "
_LOOK_SECONDS = 5.0
_NO_TOKEN = "This is no program's token. Make one where the app runs: process-cosmos-gateway token NAME"  # noqa: S105 - says that there is none

type Door = Callable[[web.Request], Awaitable[web.StreamResponse]]


@dataclass(frozen=True, slots=True)
class _Guest:
    path: str
    token: str


class Guests:
    """Lets programs with a token in; at most ``MOST_CONNECTIONS`` at each door."""

    def __init__(self, folder: Path, doors: Mapping[str, Door], look_every: float = _LOOK_SECONDS) -> None:
        """Take where tokens are kept, the doors by path, and the seconds between two looks for revoked tokens."""
        self._folder = folder
        self._doors = doors
        self._look_every = look_every
        self._inside: dict[asyncio.Task[object], _Guest] = {}

    def add_to(self, application: web.Application) -> None:
        """Open the doors."""
        for path, door in self._doors.items():
            application.router.add_get(path, partial(self._serve, path, door))
        application.on_shutdown.append(self._send_all_away)

    async def run(self) -> None:
        """Send those away, until cancelled, whose token was revoked while they were inside."""
        while True:
            await asyncio.sleep(self._look_every)
            for task, guest in tuple(self._inside.items()):
                if not await self._lets_in(guest.token):
                    task.cancel()

    async def _serve(self, path: str, door: Door, request: web.Request) -> web.StreamResponse:
        header = request.headers.get("Authorization", "")
        token = header.removeprefix(BEARER)
        if not header.startswith(BEARER) or not await self._lets_in(token):
            return problem_reply(Code.UNAUTHORIZED, _NO_TOKEN, HTTPStatus.UNAUTHORIZED)
        if sum(guest.path == path for guest in self._inside.values()) >= MOST_CONNECTIONS:
            sentence = f"{MOST_CONNECTIONS} connections are open here. Close one, or try again later."
            return problem_reply(Code.TOO_MANY_CONNECTIONS, sentence, HTTPStatus.SERVICE_UNAVAILABLE)
        request.app[LISTENER].admit(request)
        task = cast("asyncio.Task[object]", asyncio.current_task())
        self._inside[task] = _Guest(path, token)
        try:
            return await door(request)
        finally:
            del self._inside[task]

    async def _lets_in(self, token: str) -> bool:
        return await asyncio.to_thread(is_known, self._folder, token)

    async def _send_all_away(self, _: web.Application) -> None:
        for task in self._inside:
            task.cancel()
