"""Somebody between gateway and cloud endpoint who speaks HTTPS with both: replies can be changed, delayed and lost.

It shows the endpoint's own certificate, and a certificate of the site that it enrolled for. What it does not misbehave
about goes to the endpoint and back byte for byte.
"""

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp
from aiohttp import web

from process_cosmos_gateway.destinations.settings import Credentials

from .misbehaviours import Misbehave, cut, nothing

_NOT_PASSED_ON = {"host", "content-length", "content-encoding", "transfer-encoding", "connection", "date", "server"}
_EVENTS, _INBOX = "/v1/events", "/v1/inbox"


@dataclass
class Middle:
    """``misbehave`` is asked about each batch, ``inbox`` about each poll. ``polls``: how many there were."""

    far: str
    http: aiohttp.ClientSession
    port: int = 0
    misbehave: Misbehave | None = None
    inbox: Misbehave | None = None
    misbehaviours: int = 0
    polls: int = 0
    polling: set[asyncio.Transport] = field(default_factory=set)

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """Pass a request on and its reply back, or do what it was told to do instead."""
        body = await request.read()

        async def take() -> web.StreamResponse:
            return await self.forward(request, body)

        if request.path == _INBOX:
            self.polls += 1
            if request.transport is not None:
                self.polling = {each for each in self.polling if not each.is_closing()} | {request.transport}
        misbehave = {_EVENTS: self.misbehave, _INBOX: self.inbox}.get(request.path)
        if misbehave is not None:
            answer = await misbehave(request, body, take)
            if answer is not None:
                self.misbehaviours += 1
                return answer
        try:
            return await take()
        except aiohttp.ClientError, OSError:
            return await cut(request, body, nothing)

    def drop_polls(self) -> None:
        """End the polls that wait, so that the next ones come at once."""
        for transport in self.polling:
            transport.abort()

    async def forward(self, request: web.Request, body: bytes) -> web.Response:
        """Send ``body`` on in place of the request's own, and return the reply."""
        headers = {name: value for name, value in request.headers.items() if name.lower() not in _NOT_PASSED_ON}
        url = f"{self.far}{request.path_qs}"
        async with self.http.request(request.method, url, headers=headers, data=body) as reply:
            kept = {name: value for name, value in reply.headers.items() if name.lower() not in _NOT_PASSED_ON}
            return web.Response(status=reply.status, body=await reply.read(), headers=kept)


@asynccontextmanager
async def in_the_middle(cloud: Path, far: str, credentials: Credentials) -> AsyncIterator[Middle]:
    """Stand in front of the endpoint at ``far`` whose data is in ``cloud``, on a free port of 127.0.0.1."""
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(cloud / "server.pem")
    server.load_verify_locations(cadata=credentials.ca)
    server.verify_mode = ssl.CERT_OPTIONAL
    connector = aiohttp.TCPConnector(ssl=credentials.tls(), limit=0)
    async with aiohttp.ClientSession(connector=connector) as http:
        middle = Middle(far, http)
        app = web.Application(client_max_size=64 << 20)
        app.router.add_route("*", "/{path:.*}", middle.handle)
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.5)
        await runner.setup()
        try:
            await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=server).start()
            middle.port = runner.addresses[0][1]
            yield middle
        finally:
            await runner.cleanup()
