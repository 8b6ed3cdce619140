"""Authentication and connection limits of the endpoints for local programs."""

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
_CHECK_SECONDS = 5.0
_UNREADABLE = (
    "The tokens of local programs cannot be read. Connected programs stay connected; others cannot connect. "
    "Check the disk"
)
_NO_TOKEN = "This token belongs to no program. Create one where the app runs: process-cosmos-gateway token NAME"  # noqa: S105 - an error message

type Endpoint = Callable[[web.Request], Awaitable[web.StreamResponse]]


@dataclass(frozen=True, slots=True)
class _Connected:
    path: str
    token: str


class Admission:
    """Admission of programs with a valid token, at most ``MOST_CONNECTIONS`` per endpoint."""

    def __init__(self, folder: Path, endpoints: Mapping[str, Endpoint], check_seconds: float = _CHECK_SECONDS) -> None:
        """Set the folder of tokens, the endpoints by path, and the seconds between checks for revoked tokens."""
        self._folder = folder
        self._endpoints = endpoints
        self._check_seconds = check_seconds
        self._connected: dict[asyncio.Task[object], _Connected] = {}
        self._any_connected = asyncio.Event()
        self._readable = True

    def add_to(self, application: web.Application) -> None:
        """Register a GET route per path; end all connections when ``application`` shuts down."""
        for path, endpoint in self._endpoints.items():
            application.router.add_get(path, partial(self._serve, path, endpoint))
        application.on_shutdown.append(self._disconnect_all)

    async def run(self) -> None:
        """Disconnect programs whose token was revoked, until cancelled."""
        while True:
            await self._any_connected.wait()
            await asyncio.sleep(self._check_seconds)
            # A snapshot: a program that connects during the read may have a token newer than the tokens read.
            if connections := tuple(self._connected.items()):
                tokens = await self._read_tokens()
                for task, program in connections:
                    with suppress(TokensUnreadableError):  # not a revocation
                        if self._connected.get(task) is program and not tokens.is_known(program.token):
                            task.cancel()

    async def _serve(self, path: str, endpoint: Endpoint, request: web.Request) -> web.StreamResponse:
        header = request.headers.get("Authorization", "")
        token = header.removeprefix(BEARER)
        try:
            if not header.startswith(BEARER) or not (await self._read_tokens()).is_known(token):
                return problem_reply(Code.UNAUTHORIZED, _NO_TOKEN, HTTPStatus.UNAUTHORIZED)
        except TokensUnreadableError as error:
            return problem_reply(error.code, f"{error} Try again later.", HTTPStatus.SERVICE_UNAVAILABLE)
        # No await from here to the entry in ``_connected``: two connections must not both get the last place.
        if sum(program.path == path for program in self._connected.values()) >= MOST_CONNECTIONS:
            sentence = f"{MOST_CONNECTIONS} connections to this endpoint are open. Close one, or try again later."
            return problem_reply(Code.TOO_MANY_CONNECTIONS, sentence, HTTPStatus.SERVICE_UNAVAILABLE)
        request.app[LISTENER].admit(request, f"program {token}")
        task = cast("asyncio.Task[object]", asyncio.current_task())
        self._connected[task] = _Connected(path, token)
        self._any_connected.set()
        try:
            return await endpoint(request)
        finally:
            del self._connected[task]
            if not self._connected:
                self._any_connected.clear()

    async def _read_tokens(self) -> Tokens:
        """Read all tokens; log when they become unreadable, and when they are readable again."""
        tokens = await asyncio.to_thread(read_tokens, self._folder)
        if tokens.unreadable is not None and self._readable:
            _LOGGER.error("%s: %s: %s", Code.STORE_FAILED, _UNREADABLE, tokens.unreadable)
        elif tokens.unreadable is None and not self._readable:
            _LOGGER.warning("The tokens of local programs can be read again; programs can connect")
        self._readable = tokens.unreadable is None
        return tokens

    async def _disconnect_all(self, _: web.Application) -> None:
        for task in self._connected:
            task.cancel()
