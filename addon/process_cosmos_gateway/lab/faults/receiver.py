"""A webhook of the lab's own: notes what it took, and answers as it was told to."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from http import HTTPStatus

import orjson
from aiohttp import web

from .arrivals import arrivals_of
from .ledger import Ledger

WEBHOOK = "webhook"

type Misbehave = Callable[[web.Request, bytes, Callable[[], None]], Awaitable[web.StreamResponse | None]]
"""Answers a request in place of the receiver; None: the receiver is to. What it calls third takes the event."""


@dataclass
class Receiver:
    """``url`` is where events go; ``misbehaviours``: how often a request was not simply taken and answered."""

    ledger: Ledger
    url: str = ""
    port: int = 0
    misbehave: Misbehave | None = None
    misbehaviours: int = 0
    taken: set[str] = field(default_factory=set)

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """Take one event, or do what it was told to do instead."""
        body = await request.read()
        if self.misbehave is not None:
            answer = await self.misbehave(request, body, lambda: self._take(body))
            if answer is not None:
                self.misbehaviours += 1
                return answer
        self._take(body)
        return web.Response(status=HTTPStatus.ACCEPTED)

    def _take(self, body: bytes) -> None:
        event = orjson.loads(body)
        fresh = event["id"] not in self.taken
        self.taken.add(event["id"])
        for arrival in arrivals_of(event, fresh=fresh):
            self.ledger.arrive(WEBHOOK, arrival)


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
        receiver.url = f"http://127.0.0.1:{receiver.port}/hook"
        yield receiver
    finally:
        await runner.cleanup()


def status(code: int, *, every: int = 1, headers: dict[str, str] | None = None, take: bool = False) -> Misbehave:
    """Answer each ``every``-th request with ``code``; ``take``: the event is taken nevertheless."""
    seen = 0

    async def misbehave(_: web.Request, __: bytes, take_fn: Callable[[], None]) -> web.Response | None:
        nonlocal seen
        seen += 1
        if seen % every:
            return None
        if take:
            take_fn()
        return web.Response(status=code, headers=headers)

    return misbehave


def page(_: web.Request, __: bytes, ___: Callable[[], None]) -> Awaitable[web.Response]:
    """Answer as a captive portal does: 200 and a page."""
    return _later(web.Response(text="<!doctype html><html>Please accept our terms</html>", content_type="text/html"))


async def truncated(request: web.Request, _: bytes, take: Callable[[], None]) -> web.StreamResponse:
    """Take the event, then break off in the middle of the reply's body."""
    take()
    response = web.StreamResponse(headers={"Content-Length": "1000"})
    await response.prepare(request)
    await response.write(b"{")
    if request.transport is not None:
        request.transport.abort()
    return response


async def slow(request: web.Request, _: bytes, take: Callable[[], None]) -> web.StreamResponse:
    """Take the event, then let the reply drip."""
    take()
    response = web.StreamResponse()
    await response.prepare(request)
    for _piece in range(5):
        await response.write(b" ")
        await asyncio.sleep(0.02)
    return response


async def cut(request: web.Request, _: bytes, take: Callable[[], None]) -> web.StreamResponse:
    """Take the event, then end the connection without a reply: the confirmation is lost after the commit."""
    take()
    if request.transport is not None:
        request.transport.abort()
    return web.Response()


async def _later[T](value: T) -> T:
    return value
