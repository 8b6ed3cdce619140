"""The doors for local programs: who comes in, and how many at a time."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from http import HTTPStatus
from pathlib import Path
from typing import cast

from aiohttp import web

from process_cosmos_gateway.api.replies import problem_reply
from process_cosmos_gateway.contract.errors import Code
from process_cosmos_gateway.contract.local_programs import MOST_CONNECTIONS
from process_cosmos_gateway.listener import LISTENER

from .tokens import Tokens, TokensUnreadableError, read_tokens

_LOGGER = logging.getLogger(__name__)

BEARER = "Bearer "
_LOOK_SECONDS = 5.0
_UNREADABLE = "The tokens of local programs cannot be read. Connected programs stay; others cannot connect"
_NO_TOKEN = "This is no program's token. Make one where the app runs: process-cosmos-gateway token NAME"  # noqa: S105 - says that there is none

type Endpoint = Callable[[web.Request], Awaitable[web.StreamResponse]]


@dataclass(frozen=True, slots=True)
class _Program:
    path: str
    token: str


class Admission:
    """Lets programs with a token in; at most ``MOST_CONNECTIONS`` at each door."""

    def __init__(self, folder: Path, endpoints: Mapping[str, Endpoint], look_every: float = _LOOK_SECONDS) -> None:
        """Take where tokens are kept, the doors by path, and the seconds between two looks for revoked tokens."""
        self._folder = folder
        self._endpoints = endpoints
        self._look_every = look_every
        self._inside: dict[asyncio.Task[object], _Program] = {}
        self._readable = True

    def add_to(self, application: web.Application) -> None:
        """Register a GET route per path; end all connections when ``application`` shuts down."""
        for path, endpoint in self._endpoints.items():
            application.router.add_get(path, partial(self._serve, path, endpoint))
        application.on_shutdown.append(self._send_all_away)

    async def run(self) -> None:
        """Send those away, until cancelled, whose token was revoked while they were inside."""
        while True:
            await asyncio.sleep(self._look_every)
            # Those who come in meanwhile may have a newer token than what is read.
            if admission := tuple(self._inside.items()):
                tokens = await self._read_tokens()
                for task, guest in admission:
                    with suppress(TokensUnreadableError):  # no revocation
                        if self._inside.get(task) is guest and not tokens.is_known(guest.token):
                            task.cancel()

    async def _serve(self, path: str, endpoint: Endpoint, request: web.Request) -> web.StreamResponse:
        header = request.headers.get("Authorization", "")
        token = header.removeprefix(BEARER)
        try:
            if not header.startswith(BEARER) or not (await self._read_tokens()).is_known(token):
                return problem_reply(Code.UNAUTHORIZED, _NO_TOKEN, HTTPStatus.UNAUTHORIZED)
        except TokensUnreadableError as error:
            return problem_reply(error.code, f"{error} Try again later.", HTTPStatus.SERVICE_UNAVAILABLE)
        if sum(guest.path == path for guest in self._inside.values()) >= MOST_CONNECTIONS:
            sentence = f"{MOST_CONNECTIONS} connections are open here. Close one, or try again later."
            return problem_reply(Code.TOO_MANY_CONNECTIONS, sentence, HTTPStatus.SERVICE_UNAVAILABLE)
        request.app[LISTENER].admit(request, f"program {token}")
        task = cast("asyncio.Task[object]", asyncio.current_task())
        self._inside[task] = _Program(path, token)
        try:
            return await endpoint(request)
        finally:
            del self._inside[task]

    async def _read_tokens(self) -> Tokens:
        """Read who has a token; log when that cannot be done, and when it can be again."""
        tokens = await asyncio.to_thread(read_tokens, self._folder)
        if tokens.unreadable is not None and self._readable:
            _LOGGER.error("%s: %s: %s", Code.STORE_FAILED, _UNREADABLE, tokens.unreadable)
        elif tokens.unreadable is None and not self._readable:
            _LOGGER.warning("The tokens of local programs can be read again")
        self._readable = tokens.unreadable is None
        return tokens

    async def _send_all_away(self, _: web.Application) -> None:
        for task in self._inside:
            task.cancel()
