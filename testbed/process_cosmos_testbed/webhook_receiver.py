"""A webhook of the lab's own: notes what it took, and answers as it was told to."""

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from http import HTTPStatus

import orjson
from aiohttp import web

from .arrivals import arrivals_of
from .ledger import Ledger
from .replies import Misbehave

WEBHOOK = "webhook"


@dataclass
class Receiver:
    """``misbehaviours``: how often a request was not simply taken and answered."""

    ledger: Ledger
    port: int = 0
    misbehave: Misbehave | None = None
    misbehaviours: int = 0
    taken: set[str] = field(default_factory=set)

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """Take one event, or do what it was told to do instead."""
        body = await request.read()

        async def take() -> web.StreamResponse:
            event = orjson.loads(body)
            fresh = event["id"] not in self.taken
            self.taken.add(event["id"])
            for arrival in arrivals_of(event, fresh=fresh):
                self.ledger.arrive(WEBHOOK, arrival, time.monotonic())
            return web.Response(status=HTTPStatus.ACCEPTED)

        if self.misbehave is not None:
            answer = await self.misbehave(request, body, take)
            if answer is not None:
                self.misbehaviours += 1
                return answer
        return await take()


@asynccontextmanager
async def receiving(ledger: Ledger) -> AsyncIterator[Receiver]:
    """Run a receiver on a free port of 127.0.0.1."""
    receiver = Receiver(ledger)
    app = web.Application(client_max_size=16 << 20)
    app.router.add_post("/hook", receiver.handle)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.5)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        receiver.port = runner.addresses[0][1]
        yield receiver
    finally:
        await runner.cleanup()
