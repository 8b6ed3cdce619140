"""A gateway in the test process with real sockets and the real contract, whose replies the test controls."""

import asyncio
import ssl
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from hashlib import sha256
from itertools import takewhile
from types import TracebackType
from typing import Self

import orjson
import trustme
from aiohttp import WSMsgType, web
from aiohttp.test_utils import TestServer

from custom_components.process_cosmos.contract.codec import decode, decode_json, encode, parse
from custom_components.process_cosmos.contract.destinations import (
    DestinationTested,
    Status,
    TestDestination,
    Waiting,
)
from custom_components.process_cosmos.contract.devices import Device, MissedChangesReport, Snapshot, Subscribe
from custom_components.process_cosmos.contract.identifiers import Ulid
from custom_components.process_cosmos.contract.messages import FROM_HOME_ASSISTANT, FromGateway, FromHomeAssistant
from custom_components.process_cosmos.contract.pairing import OneTimeLine, Paired, PairingRequest
from custom_components.process_cosmos.contract.session import (
    GatewayHello,
    Heartbeat,
    HomeAssistantHello,
    Problem,
    Refused,
    Result,
)
from custom_components.process_cosmos.contract.versions import SCHEMA
from tests.support.waiting import until

SITE = Ulid("01JDG0000000000000000000S1")
OTHER_SITE = Ulid("01JDG0000000000000000000S2")
TOKEN = "a-token-that-nobody-may-ever-read"
SECRET = "pairing-secret-0123456789"
VERSION = "9.8.7"
IDLE = Status(links=(), waiting=Waiting(), rejected=0, dropped=0, broker_connected=True)
CONDITION_WITHIN = 30.0

type Reply = Callable[[FromHomeAssistant], FromGateway | None]


def done(message: FromHomeAssistant) -> FromGateway | None:
    """Accept every request; a test of a destination is confirmed."""
    if isinstance(message, TestDestination):
        return DestinationTested(id=message.id, delivered=True, status=204)
    request_id = getattr(message, "id", None)
    return Result(id=request_id) if request_id and not isinstance(message, Subscribe | Result) else None


def refusing(code: str) -> Reply:
    """Return a reply function that refuses every request with ``code``."""

    def reply(message: FromHomeAssistant) -> FromGateway | None:
        result = done(message)
        return (
            replace(result, problem=Problem(code=code, message=f"It is {code}")) if isinstance(result, Result) else None
        )

    return reply


@dataclass
class ContractGateway:
    """Serves ``/ws`` and ``/v1/pair``; a test may change its fields at any time."""

    refused: Refused | Heartbeat | None = None
    hello: GatewayHello = field(
        default_factory=lambda: GatewayHello(
            schema=SCHEMA,
            min_schema=SCHEMA,
            version=VERSION,
            site=SITE,
            epoch=Ulid("01JDG0000000000000000000E1"),
            cursor=None,
            summaries=(),
        )
    )
    devices: tuple[Device, ...] = ()
    replay: tuple[FromGateway, ...] = ()
    missed: MissedChangesReport | None = field(default_factory=lambda: MissedChangesReport(since=0))
    status: Status = IDLE
    reply: Reply = done
    token: str = TOKEN
    site: Ulid = SITE
    tls: bool = False
    receipts: bool = True
    received: list[FromHomeAssistant] = field(default_factory=list)
    sessions: int = 0
    socket: web.WebSocketResponse | None = None
    port: int = 0
    released: asyncio.Event | None = None
    """While there is one that is not set, nothing is read: the gateway hangs."""

    async def __aenter__(self) -> Self:
        """Listen on a free port."""
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the listening socket."""
        await self.stop()

    async def start(self) -> None:
        """Start listening, again on the same port after a stop."""
        application = web.Application()
        application.router.add_get("/ws", self._serve)
        application.router.add_post("/v1/pair", self._pair)
        self._server = TestServer(application, host="127.0.0.1", port=self.port)
        await self._server.start_server(ssl=self._certificate() if self.tls else None, shutdown_timeout=0.1)
        assert self._server.port
        self.port = self._server.port

    async def stop(self) -> None:
        """Stop listening and close the session."""
        await self.drop()
        await self._server.close()

    async def drop(self) -> None:
        """Close the open session."""
        if self.socket and self.socket._req and self.socket._req.transport:
            self.socket._req.transport.abort()
        self.socket = None

    @property
    def url(self) -> str:
        """The base URL."""
        return f"{'https' if self.tls else 'http'}://127.0.0.1:{self.port}"

    @property
    def line(self) -> str:
        """A pairing line that it accepts."""
        return str(OneTimeLine(url=self.url, secret=SECRET, sha256=self.sha256))

    async def send(self, *messages: FromGateway) -> None:
        """Send a message in the open session."""
        assert self.socket
        for message in messages:
            await self.socket.send_bytes(encode(message))

    async def send_raw(self, frame: str) -> None:
        """Send raw data in the open session."""
        assert self.socket
        await self.socket.send_str(frame)

    def received_of[M](self, kind: type[M]) -> list[M]:
        """Return the received messages of one type, oldest first."""
        return [message for message in self.received if isinstance(message, kind)]

    async def wait_for_message[M](self, kind: type[M], times: int = 1) -> M:
        """Wait for ``count`` messages of one type; return the newest."""
        await until(lambda: len(self.received_of(kind)) >= times)
        return self.received_of(kind)[-1]

    async def wait_until_confirmed(self) -> None:
        """Wait until Home Assistant has confirmed the changes of the open session."""

        def is_confirmed() -> bool:
            newest = takewhile(lambda message: not isinstance(message, Subscribe), reversed(self.received))
            return any(isinstance(message, Heartbeat) and message.sequence is not None for message in newest)

        await until(is_confirmed)

    def _certificate(self) -> ssl.SSLContext:
        if not hasattr(self, "_context"):
            certificate = trustme.CA().issue_cert("gateway.invalid")
            self._context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
            certificate.configure_cert(self._context)
            der = ssl.PEM_cert_to_DER_cert(certificate.cert_chain_pems[0].bytes().decode())
            self.sha256 = sha256(der).hexdigest()
        return self._context

    async def _pair(self, request: web.Request) -> web.Response:
        asked = parse(PairingRequest, decode_json(await request.read()))
        if asked.secret != SECRET:
            problem = Problem(code="pairing_refused", message="No")
            return web.Response(body=orjson.dumps(problem), status=403)
        return web.Response(body=orjson.dumps(Paired(token=self.token, site=self.site, version=VERSION)))

    async def _serve(self, request: web.Request) -> web.StreamResponse:
        if request.headers.get("Authorization") != f"Bearer {self.token}":
            return web.Response(status=401)
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        self.received.append(decode(await socket.receive_bytes(), {HomeAssistantHello.type: HomeAssistantHello}))
        await socket.send_bytes(encode(self.refused or self.hello))
        if self.refused:
            await socket.close()
            return socket
        self.socket = socket
        self.sessions += 1
        receipts = asyncio.create_task(self._send_heartbeats(socket))
        try:
            if self.released:
                await self.released.wait()
            async for frame in socket:
                assert frame.type in (WSMsgType.BINARY, WSMsgType.TEXT)
                await self._answer(decode(frame.data, FROM_HOME_ASSISTANT))
        finally:
            receipts.cancel()
            await asyncio.gather(receipts, return_exceptions=True)
        return socket

    async def _answer(self, message: FromHomeAssistant) -> None:
        self.received.append(message)
        if isinstance(message, Subscribe):
            missed = [self.missed] if self.missed and message.report_missed else []
            await self.send(*self.replay, Snapshot(sequence=100, devices=self.devices), *missed, self.status)
        elif reply := self.reply(message):
            await self.send(reply)

    async def _send_heartbeats(self, socket: web.WebSocketResponse) -> None:
        while True:
            if self.receipts:
                await socket.send_bytes(encode(Heartbeat()))
            await asyncio.sleep(0.2)
