"""Server whose endpoints for local programs use a real outbox."""

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
from process_cosmos_gateway.api.metrics_endpoint import MetricsEndpoint
from process_cosmos_gateway.api.pairing import Pairing, offer_pairing
from process_cosmos_gateway.api.requests import Requests
from process_cosmos_gateway.api.server import Server
from process_cosmos_gateway.api.session import Services
from process_cosmos_gateway.contract.pairing import PairingRequest
from process_cosmos_gateway.outbox import Event, Limits, Outbox, Outcome
from process_cosmos_gateway.store import Store
from process_cosmos_gateway.store.disk_reserve import free_bytes

from .link import SECONDS
from .services import SITE, FakeAlerts, FakeBackend
from .test_change_feed import HandClock

PROGRAM = "watcher"
TIME = "2026-11-22T12:00:00+00:00"


def publish(number: int, **changes: object) -> dict[str, object]:
    """Return a publish message whose event id is a ULID made from ``number``."""
    usual = {"type": "publish", "id": str(number), "event": f"01K{number:023d}", "event_type": "com.example.seen.v1"}
    return {**usual, "subject": "front-door", "time": TIME, "data": {"number": number}, **changes}


@dataclass
class Producer:
    """Connection of a local program."""

    socket: ClientWebSocketResponse

    async def send(self, *messages: object) -> None:
        for message in messages:
            await self.socket.send_bytes(message if isinstance(message, bytes) else orjson.dumps(message))

    async def frame(self) -> list[dict[str, Any]]:
        """Return the results in the next frame."""
        async with asyncio.timeout(SECONDS):
            message = await self.socket.receive()
        assert message.type is WSMsgType.TEXT, message
        results: list[dict[str, Any]] = orjson.loads(message.data)
        return results

    async def results(self, number: int) -> list[dict[str, Any]]:
        """Return the next ``number`` results in order of arrival."""
        found: list[dict[str, Any]] = []
        while len(found) < number:
            found += await self.frame()
        return found

    async def codes(self, *messages: object) -> list[str | None]:
        """Send messages; return the code of each refusal, None for accepted ones."""
        await self.send(*messages)
        found = await self.results(len(messages))
        return [result["problem"] and result["problem"]["code"] for result in found]


class CountedOutbox(Outbox):
    """Outbox that counts in ``offered`` the events offered to it, stored or not."""

    offered = 0

    @override
    def submit(self, event: Event, after: Outcome | None = None) -> Outcome:
        self.offered += 1
        return super().submit(event, after)


@dataclass
class Endpoints:
    """The server, its outbox, and the tokens to connect."""

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
        """Stop the server, as the gateway does."""
        await self.listening.aclose()

    async def break_store(self) -> None:
        """Close the store, so that reads and writes fail."""
        self.store_works = False
        await self.store.close()

    def bearer(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.token}"}


@asynccontextmanager
async def with_endpoints(
    folder: Path, port: int, limits: Limits | None = None, free_fn: Callable[[Path], int] = free_bytes
) -> AsyncIterator[Endpoints]:
    clock, backend = HandClock(), cast("Any", FakeBackend())
    token = make_token(folder, PROGRAM, clock)
    store = await Store.open(folder, lambda: SITE, free_fn=free_fn)
    outbox = CountedOutbox(store, clock, limits)
    services = Services(
        alerts=cast("Any", FakeAlerts()),
        feed=ChangeFeed(clock, tuple),
        requests=Requests(backend, backend, backend),
        status=backend,
        clock=clock,
    )
    producers = EventsEndpoint(outbox)
    metrics = MetricsEndpoint(store, outbox, backend, folder, producers.accept_seconds)
    admission = Admission(folder, {"/ws/events": producers.serve, "/metrics": metrics.serve}, check_seconds=0.01)
    pairing = Pairing(folder, clock, supervised=False)
    home = await pairing.pair(PairingRequest(secret=offer_pairing(folder, clock), instance="home"))
    async with ClientSession() as http, AsyncExitStack() as listening:
        await listening.enter_async_context(
            Server(services, store, pairing, "9.8.7", admission).listen("127.0.0.1", port, None)
        )
        checking = asyncio.create_task(admission.run())
        listening.callback(checking.cancel)
        made = Endpoints(http, f"http://127.0.0.1:{port}", folder, token, home, store, outbox, listening)
        yield made
    if made.store_works:
        await store.close()
