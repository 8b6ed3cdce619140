"""Helpers for tests of destinations: a receiver that can misbehave, events, a stand-in for alerts."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from ssl import SSLContext

from aiohttp import web

from process_cosmos_gateway.contract.alerts import AlertEvent, AlertState, Severity
from process_cosmos_gateway.contract.cloud import InboxItem
from process_cosmos_gateway.contract.destinations import EventKind, Priority
from process_cosmos_gateway.contract.events import event_type
from process_cosmos_gateway.contract.identifiers import Ulid
from process_cosmos_gateway.outbox import Delivery, Event
from process_cosmos_gateway.store import Transaction

SITE = Ulid("01K8J5Z0000000000000000001")
PATIENCE = 20.0

type Behaviour = Callable[[web.Request, bytes], Awaitable[web.StreamResponse]]


def event_id(number: int) -> Ulid:
    """Return the id of event ``number``."""
    return Ulid(f"01K{number:023d}")


def alert_id(number: int) -> Ulid:
    """Return the id of alert ``number``."""
    return Ulid(f"01J{number:023d}")


def event(number: int, alert: int = 0, revision: int = 1) -> Event:
    """Return event ``number`` about ``alert``, by default the alert of the same number."""
    about = alert_id(alert or number)
    return Event(
        id=event_id(number),
        type=event_type("alert", "opened"),
        kind=EventKind.ALERT,
        priority=Priority.URGENT,
        subject=about,
        key=about,
        time=datetime(2026, 11, 22, 10, tzinfo=UTC),
        data=AlertEvent(
            alert=about,
            revision=revision,
            state=AlertState.OPEN,
            severity=Severity.CRITICAL,
            message="Water in the cellar",
            entities=("binary_sensor.cellar",),
            answers=("Turn on again", "Keep off"),
            count=1,
        ),
    )


def delivery(number: int, key: str = "") -> Delivery:
    """Return event ``number`` as the outbox returns it."""
    content = event(number)
    return Delivery(
        priority=content.priority,
        sequence=number,
        id=content.id,
        type=content.type,
        subject=content.subject,
        key=key or content.key,
        body=content.encode(SITE),
    )


@dataclass
class FakeAlerts:
    """A stand-in for ``Alerts``: a gate for deliveries, and a list of stored inbox items."""

    stored: list[tuple[str, InboxItem]] = field(default_factory=list)
    gate: asyncio.Event = field(default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        """Start with an open gate."""
        self.gate.set()

    def may_deliver(self) -> bool:
        """Return whether the gate is open."""
        return self.gate.is_set()

    async def until_may_deliver(self) -> None:
        """Wait for an open gate."""
        await self.gate.wait()

    def has_room(self, _transaction: Transaction) -> bool:
        """Return True: the room is unlimited."""
        return True

    def add_proposals(self, transaction: Transaction, items: Sequence[InboxItem], destination: str) -> None:
        """Keep the items once the transaction is on disk, as the real one does."""
        transaction.after_commit(lambda: self.stored.extend((destination, item) for item in items))


@dataclass
class Call:
    """A received request."""

    path: str
    headers: dict[str, str]
    body: bytes
    at: float


async def accept(_request: web.Request, _body: bytes) -> web.Response:
    """Reply 204 to every request."""
    return web.Response(status=204)


def reply(status: int = 200, body: bytes = b"", **headers: str) -> Behaviour:
    """Return a behaviour that sends the same reply to every request."""

    async def behave(_request: web.Request, _body: bytes) -> web.Response:
        return web.Response(
            status=status, body=body, headers={name.replace("_", "-"): value for name, value in headers.items()}
        )

    return behave


def in_turn(*behaviours: Behaviour) -> Behaviour:
    """Return a behaviour that uses each of ``behaviours`` for one request, then the last one."""
    left = list(behaviours)

    async def behave(request: web.Request, body: bytes) -> web.StreamResponse:
        now = left.pop(0) if len(left) > 1 else left[0]
        return await now(request, body)

    return behave


async def break_off(request: web.Request, _body: bytes) -> web.StreamResponse:
    """Send the beginning of a reply, then abort the connection."""
    response = web.StreamResponse(headers={"Content-Length": "100"})
    await response.prepare(request)
    await response.write(b'{"answer": "turn')
    assert request.transport is not None
    request.transport.abort()
    return response


async def keep_silent(_request: web.Request, _body: bytes) -> web.StreamResponse:
    """Leave the request without a reply."""
    await asyncio.Event().wait()
    raise AssertionError


@dataclass
class Receiver:
    """A real HTTP server whose behaviour a test sets."""

    behave: Behaviour = accept
    calls: list[Call] = field(default_factory=list)
    port: int = 0
    tls: SSLContext | None = None
    most_at_once: int = 0
    _now: int = 0
    _runner: web.AppRunner | None = None

    @property
    def url(self) -> str:
        """The URL it listens at."""
        return f"{'https' if self.tls else 'http'}://127.0.0.1:{self.port}"

    @property
    def keys(self) -> list[str]:
        """The idempotency keys of the requests, in order."""
        return [call.headers["Idempotency-Key"] for call in self.calls]

    def has_received(self, content: bytes) -> bool:
        """Return whether a request contained ``content`` in its body."""
        return any(content in call.body for call in self.calls)

    async def start(self) -> None:
        """Listen at the same port as before."""
        app = web.Application(client_max_size=1 << 24)
        app.router.add_route("*", "/{path:.*}", self._handle)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", self.port, ssl_context=self.tls, reuse_address=True).start()
        self.port = self._runner.addresses[0][1]

    async def stop(self) -> None:
        """Close the listening socket."""
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        body = await request.read()
        self.calls.append(Call(request.path_qs, dict(request.headers), body, time.monotonic()))
        self._now += 1
        self.most_at_once = max(self.most_at_once, self._now)
        try:
            return await self.behave(request, body)
        finally:
            self._now -= 1


@asynccontextmanager
async def receiver(behave: Behaviour = accept, tls: SSLContext | None = None) -> AsyncIterator[Receiver]:
    """Run a receiver for as long as the block runs."""
    server = Receiver(behave=behave, tls=tls)
    await server.start()
    try:
        yield server
    finally:
        await server.stop()
