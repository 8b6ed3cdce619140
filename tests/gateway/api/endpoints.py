"""A server with a real outbox behind the doors for programs."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast, override

import orjson
from aiohttp import ClientSession, ClientWebSocketResponse, WSMsgType

from process_cosmos_gateway.api.change_feed import ChangeFeed
from process_cosmos_gateway.api.local_programs.admission import Admission
from process_cosmos_gateway.api.local_programs.endpoint import EventsEndpoint
from process_cosmos_gateway.api.local_programs.tokens import make_token
from process_cosmos_gateway.api.metrics import Metrics
from process_cosmos_gateway.api.pairing import Pairing, offer_pairing
from process_cosmos_gateway.api.requests import Requests
from process_cosmos_gateway.api.server import Server
from process_cosmos_gateway.api.session import Services
from process_cosmos_gateway.contract.pairing import PairingRequest
from process_cosmos_gateway.outbox import Event, Limits, Outbox, Outcome
from process_cosmos_gateway.store import Store
from process_cosmos_gateway.store.disk_reserve import free_bytes

from .link import SECONDS
from .services import SITE, FakeAlerts, FakeOwners
from .test_change_feed import HandClock

PROGRAM = "watcher"
TIME = "2026-11-22T12:00:00+00:00"


def publish(number: int, **changes: object) -> dict[str, object]:
    """Return one event as a program sends it; its id is a ULID made of ``number``."""
    usual = {"type": "publish", "id": str(number), "event": f"01K{number:023d}", "event_type": "com.example.seen.v1"}
    return {**usual, "subject": "front-door", "time": TIME, "data": {"number": number}, **changes}


@dataclass
class Producer:
    """A local program."""

    socket: ClientWebSocketResponse

    async def say(self, *messages: object) -> None:
        for message in messages:
            await self.socket.send_bytes(message if isinstance(message, bytes) else orjson.dumps(message))

    async def frame(self) -> list[dict[str, Any]]:
        """Return the next results: all of one frame."""
        async with asyncio.timeout(SECONDS):
            message = await self.socket.receive()
        assert message.type is WSMsgType.TEXT, message
        results: list[dict[str, Any]] = orjson.loads(message.data)
        return results

    async def results(self, number: int) -> list[dict[str, Any]]:
        """Return so many results, in the order they came."""
        found: list[dict[str, Any]] = []
        while len(found) < number:
            found += await self.frame()
        return found

    async def codes(self, *messages: object) -> list[str | None]:
        """Say something; return the code of each refusal, None for what was accepted."""
        await self.say(*messages)
        found = await self.results(len(messages))
        return [result["problem"] and result["problem"]["code"] for result in found]


class CountedOutbox(Outbox):
    """The outbox; ``asked``: how many events were brought to it, on disk or not."""

    asked = 0

    @override
    def submit(self, event: Event, after: Outcome | None = None) -> Outcome:
        self.asked += 1
        return super().submit(event, after)


@dataclass
class Endpoints:
    """The server, its outbox, and how to come in."""

    http: ClientSession
    url: str
    folder: Path
    token: str
    home_token: str
    store: Store
    outbox: CountedOutbox
    listening: AsyncExitStack
    store_works: bool = True

    async def producer(self) -> Producer:
        return Producer(await self.http.ws_connect(f"{self.url}/ws/events", headers=self.bearer()))

    async def stop(self) -> None:
        """Stop listening, as the gateway does."""
        await self.listening.aclose()

    async def break_store(self) -> None:
        """Let nothing be written or read any more."""
        self.store_works = False
        await self.store.close()

    def bearer(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.token}"}


@asynccontextmanager
async def with_endpoints(
    folder: Path, port: int, limits: Limits | None = None, free_fn: Callable[[Path], int] = free_bytes
) -> AsyncIterator[Endpoints]:
    clock, anybody = HandClock(), cast("Any", FakeOwners())
    token = make_token(folder, PROGRAM, clock)
    store = await Store.open(folder, lambda: SITE, free_fn=free_fn)
    outbox = CountedOutbox(store, clock, limits)
    parts = Services(
        alerts=cast("Any", FakeAlerts()),
        feed=ChangeFeed(clock, tuple),
        requests=Requests(anybody, anybody, anybody),
        status=anybody,
    )
    producers = EventsEndpoint(outbox)
    metrics = Metrics(store, outbox, anybody, folder, [producers.alarm_seconds])
    admission = Admission(folder, {"/ws/events": producers.serve, "/metrics": metrics.serve}, look_every=0.01)
    access = Pairing(folder, clock, supervised=False)
    home = await access.pair(PairingRequest(secret=offer_pairing(folder, clock), instance="home"))
    async with ClientSession() as http, AsyncExitStack() as listening:
        await listening.enter_async_context(
            Server(parts, store, access, "0.1.0", admission).listen("127.0.0.1", port, None)
        )
        looking = asyncio.create_task(admission.run())
        listening.callback(looking.cancel)
        made = Endpoints(http, f"http://127.0.0.1:{port}", folder, token, home, store, outbox, listening)
        yield made
    if made.store_works:
        await store.close()
