"""Server with fake services behind it."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any, cast

from aiohttp import ClientSession

from process_cosmos_gateway.api.change_feed import ChangeFeed
from process_cosmos_gateway.api.ingress.page import StatusPage
from process_cosmos_gateway.api.pairing import Pairing, offer_pairing
from process_cosmos_gateway.api.requests import Requests
from process_cosmos_gateway.api.server import Server
from process_cosmos_gateway.api.session import Limits, Services
from process_cosmos_gateway.api.status import StatusReader
from process_cosmos_gateway.contract.alerts import Notified, Propose, Transition
from process_cosmos_gateway.contract.destinations import Status, Waiting
from process_cosmos_gateway.contract.devices import Device
from process_cosmos_gateway.contract.identifiers import Position, Ulid
from process_cosmos_gateway.contract.pairing import PairingRequest
from process_cosmos_gateway.contract.session import GatewayHello, Result
from process_cosmos_gateway.errors import StoreError
from process_cosmos_gateway.store import Store

from .link import RUN, Link, hello
from .test_change_feed import HandClock

SITE = Ulid("01KAQ70000PC0SM0S000000000")
EPOCH = Ulid("01KAQ70001EP0CH00000000000")


@dataclass
class FakeAlerts:
    """Fake of ``Alerts`` that records calls in order."""

    calls: list[Any] = field(default_factory=list)
    contacts: int = 0
    commits: int = 0
    broken: bool = False
    gate: asyncio.Event = field(default_factory=asyncio.Event)
    send: Callable[[Notified | Propose], None] | None = None
    entry: str | None = None

    def __post_init__(self) -> None:
        self.gate.set()

    async def cursor_and_summaries(self) -> tuple[Position | None, tuple[()]]:
        if self.broken:
            raise StoreError
        return Position(run=RUN, n=3), ()

    def session_opened(self, send: Callable[[Notified | Propose], None], entry: str | None) -> None:
        self.send = send
        self.entry = entry
        self.calls.append("opened")

    def session_closed(self, *, announced: bool) -> None:
        self.calls.append("closed, announced" if announced else "closed")

    def heard_from_home_assistant(self) -> None:
        self.contacts += 1

    async def apply(self, *transitions: Transition) -> None:
        await self.gate.wait()
        if self.broken:
            raise StoreError
        self.commits += 1
        self.calls += [transition.position.n for transition in transitions]

    async def caught_up(self) -> None:
        self.calls.append("caught up")

    async def settle(self, result: Result) -> None:
        self.calls.append(result)


@dataclass
class FakeBackend:
    """Fake of devices, destinations, outbox and the status reader."""

    written: list[object] = field(default_factory=list)
    test: Callable[[object], Awaitable[object]] | None = None
    error: Exception | None = None
    rejected_count: int = 0
    status_broken: bool = False
    ages: Iterator[float] = field(default_factory=partial(count, 0.5))
    changed: asyncio.Event = field(default_factory=asyncio.Event)

    async def write(self, request: object) -> None:
        if self.error:
            raise self.error
        self.written.append(request)

    def __getattr__(self, name: str) -> object:
        return self.write

    async def read(self) -> Status:
        if self.status_broken:
            raise StoreError
        return Status(
            links=(),
            waiting=Waiting(),
            rejected=self.rejected_count,
            dropped=0,
            broker_connected=True,
            oldest_waiting_age=next(self.ages),
        )


@dataclass
class ServerHarness:
    """Running server with fake services, and its client."""

    http: ClientSession
    url: str
    token: str
    alerts: FakeAlerts
    backend: FakeBackend
    feed: ChangeFeed
    pairing: Pairing
    devices: list[Device]
    clock: HandClock
    links: list[Link] = field(default_factory=list)

    async def connect(self, token: str | None = None) -> Link:
        headers = {"Authorization": f"Bearer {self.token if token is None else token}"}
        self.links.append(Link(await self.http.ws_connect(f"{self.url}/ws", headers=headers, max_msg_size=0)))
        return self.links[-1]

    async def open(self) -> Link:
        link = await self.connect()
        await link.send(hello())
        assert isinstance(await link.next(), GatewayHello)
        return link


@asynccontextmanager
async def serving(
    folder: Path, port: int, limits: Limits, page: StatusPage | None = None
) -> AsyncIterator[ServerHarness]:
    clock, alerts, backend = HandClock(), FakeAlerts(), FakeBackend()
    pairing = Pairing(folder, clock, supervised=False)
    token = await pairing.pair(PairingRequest(secret=offer_pairing(folder, clock), instance="home"))
    devices: list[Device] = []
    feed = ChangeFeed(clock, lambda: tuple(devices))
    store = await Store.open(folder, lambda: SITE)
    services = Services(
        alerts=cast("Any", alerts),
        feed=feed,
        requests=Requests(cast("Any", backend), cast("Any", backend), cast("Any", backend)),
        status=cast("StatusReader", backend),
        clock=clock,
        limits=limits,
    )
    server = Server(services, store, pairing, "9.8.7", page=page)
    async with server.listen("127.0.0.1", port, None), ClientSession() as http:
        harness = ServerHarness(http, f"http://127.0.0.1:{port}", token, alerts, backend, feed, pairing, devices, clock)
        yield harness
        for link in harness.links:
            await link.socket.close()
    await store.close()
