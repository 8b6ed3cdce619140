"""An HTTP server on 127.0.0.1, and endpoints that misbehave on command."""

import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from aiohttp import web

from .processes import LOCAL
from .replies import Misbehave, Take


@asynccontextmanager
async def listening(app: web.Application, port: int = 0, tls: ssl.SSLContext | None = None) -> AsyncIterator[int]:
    """Serve ``app`` inside the block on ``port`` (0: a free one); yield the port."""
    # The default of 60 s would wait for long polls, and for requests that get no reply.
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.5)
    await runner.setup()
    try:
        await web.TCPSite(runner, LOCAL, port, ssl_context=tls).start()
        yield int(runner.addresses[0][1])
    finally:
        await runner.cleanup()


class MisbehavingEndpoint:
    """``misbehaviours``: how many requests were answered by ``misbehave`` instead of properly."""

    misbehave: Misbehave | None = None
    misbehaviours = 0
    port = 0

    async def answer(
        self, misbehave: Misbehave | None, request: web.Request, body: bytes, take: Take
    ) -> web.StreamResponse:
        """Answer by ``misbehave`` if it answers this request, else by ``take``."""
        if misbehave is not None:
            answer = await misbehave(request, body, take)
            if answer is not None:
                self.misbehaviours += 1
                return answer
        return await take()
