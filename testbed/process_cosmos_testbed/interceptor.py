"""An interceptor between gateway and cloud endpoint that speaks HTTPS with both: replies can be altered and lost.

It presents the endpoint's own certificate to the gateway, and a certificate of the site to the endpoint. Requests it
does not misbehave about pass in both directions byte for byte.
"""

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
from aiohttp import web

from process_cosmos_gateway.destinations.settings import Credentials

from .http_server import MisbehavingEndpoint, listening
from .replies import Misbehave, cut, nothing

_HOP_BY_HOP = {"host", "content-length", "content-encoding", "transfer-encoding", "connection", "date", "server"}
_EVENTS, _INBOX = "/v1/events", "/v1/inbox"


class Interceptor(MisbehavingEndpoint):
    """``misbehave`` may answer each batch, ``inbox`` each poll of the inbox; ``polls`` counts these."""

    def __init__(self, far: str, http: aiohttp.ClientSession) -> None:
        """Pass requests on to the endpoint at ``far`` through ``http``."""
        self.inbox: Misbehave | None = None
        self.polls = 0
        self._far = far
        self._http = http
        self._polling: set[asyncio.Transport] = set()

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """Pass a request on and its reply back, unless a misbehaviour answers it."""
        body = await request.read()

        async def forward() -> web.StreamResponse:
            return await self.forward(request, body)

        if request.path == _INBOX:
            self.polls += 1
            if request.transport is not None:
                self._polling = {each for each in self._polling if not each.is_closing()} | {request.transport}
        misbehave = {_EVENTS: self.misbehave, _INBOX: self.inbox}.get(request.path)
        try:
            return await self.answer(misbehave, request, body, forward)
        except aiohttp.ClientError, OSError:
            # The gateway must see a lost connection, as without the interceptor, and not a 500 of this server.
            return await cut(request, body, nothing)

    def drop_polls(self) -> None:
        """End the waiting polls, so that the next ones come at once."""
        for transport in self._polling:
            transport.abort()

    async def forward(self, request: web.Request, body: bytes) -> web.Response:
        """Send ``body`` in place of the request's own body; return the endpoint's reply."""
        headers = {name: value for name, value in request.headers.items() if name.lower() not in _HOP_BY_HOP}
        url = f"{self._far}{request.path_qs}"
        async with self._http.request(request.method, url, headers=headers, data=body) as reply:
            kept = {name: value for name, value in reply.headers.items() if name.lower() not in _HOP_BY_HOP}
            return web.Response(status=reply.status, body=await reply.read(), headers=kept)


@asynccontextmanager
async def intercepting(cloud: Path, far: str, credentials: Credentials) -> AsyncIterator[Interceptor]:
    """Listen inside the block in front of the endpoint at ``far``, whose data is in ``cloud``."""
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(cloud / "server.pem")
    server.load_verify_locations(cadata=credentials.ca)
    server.verify_mode = ssl.CERT_OPTIONAL
    connector = aiohttp.TCPConnector(ssl=credentials.tls(), limit=0)
    async with aiohttp.ClientSession(connector=connector) as http:
        interceptor = Interceptor(far, http)
        # aiohttp's default of 1 MiB counts decompressed bytes, and a large batch exceeds it.
        app = web.Application(client_max_size=64 << 20)
        app.router.add_route("*", "/{path:.*}", interceptor.handle)
        async with listening(app, tls=server) as interceptor.port:
            yield interceptor
