"""A simulated Home Assistant: sends alerts as the integration does, and again what has no receipt."""

import asyncio
import os
import time
from collections import deque
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any, NamedTuple

import aiohttp
import orjson

from process_cosmos_gateway.contract.alerts import (
    AlertState,
    CaughtUp,
    Change,
    Replica,
    Severity,
    Transition,
    TransitionKind,
)
from process_cosmos_gateway.contract.codec import decode, encode, parse
from process_cosmos_gateway.contract.destinations import Priority, Status
from process_cosmos_gateway.contract.devices import Subscribe
from process_cosmos_gateway.contract.durations import HEARTBEAT_EVERY
from process_cosmos_gateway.contract.identifiers import Position, Ulid, UlidFactory
from process_cosmos_gateway.contract.messages import FROM_GATEWAY, FromGateway, FromHomeAssistant
from process_cosmos_gateway.contract.pairing import OneTimeLine, Paired, PairingRequest
from process_cosmos_gateway.contract.session import (
    Committed,
    GatewayHello,
    Heartbeat,
    HomeAssistantHello,
    Refused,
    Result,
)
from process_cosmos_gateway.contract.versions import MIN_SCHEMA, SCHEMA

from .ledger import Item, Ledger
from .processes import TestbedError

_RETRY_SECONDS = 0.1
_PATIENCE = 30.0
_IN_FLIGHT = 16


class _Record(NamedTuple):
    """An urgent event, and the monotonic time it was recorded: its wait begins then, not when it can be sent."""

    item: Item
    at: float
    transition: Transition


class RequestFailedError(TestbedError):
    """The gateway refused a request, or did not reply to it."""


class FakeHomeAssistant:
    """One Home Assistant with an open session; everything it records is sent until it has a receipt."""

    def __init__(self, url: str, ledger: Ledger) -> None:
        """Use the gateway at ``url``; record everything in ``ledger``."""
        self.url = url
        self.status: Status | None = None
        self.connected = asyncio.Event()
        self.receipts = 0
        self.site = Ulid("")
        self._ledger = ledger
        self.token = ""
        self.new_alert = self._ulids = UlidFactory(lambda: time.time_ns() // 1_000_000, os.urandom)
        self._run = self._ulids()
        self._log: list[_Record] = []
        self._confirmed = 0
        self._sent = 0
        self._counts: dict[Ulid, int] = {}
        self._news = asyncio.Event()
        self._requests: dict[str, asyncio.Future[Result]] = {}
        self._questions: deque[FromHomeAssistant] = deque()

    async def pair(self, line: OneTimeLine) -> None:
        """Pair with the gateway."""
        body = orjson.dumps(PairingRequest(secret=line.secret, instance="testbed"))
        pinned = aiohttp.Fingerprint(bytes.fromhex(line.sha256))
        async with aiohttp.ClientSession() as http, http.post(f"{line.url}/v1/pair", data=body, ssl=pinned) as reply:
            if reply.status != 200:  # noqa: PLR2004 - OK
                raise RequestFailedError(f"pairing was answered with {reply.status}")
            paired = parse(Paired, orjson.loads(await reply.read()))
            self.token, self.site = paired.token, paired.site

    def raise_alert(self, alert: Ulid, text: str = "Water under the sink") -> None:
        """Record a call of ``alert``, which opens or updates it; it is sent as soon as possible."""
        number = self._counts[alert] = self._counts.get(alert, 0) + 1
        replica = Replica(
            id=alert,
            group="automation.testbed",
            state=AlertState.OPEN,
            revision=number,
            answers_from=1,
            severity=Severity.CRITICAL,
            message=text,
            entities=("binary_sensor.leak",),
            answers=("close",),
            count=number,
            until_in=86400.0,
        )
        kind = TransitionKind.OPENED if number == 1 else TransitionKind.UPDATED
        change = Change(kind=kind, alert=replica, event=self._ulids(), at=datetime.now(UTC))
        position = Position(run=self._run, n=len(self._log) + 1)
        transition = Transition(position=position, changes=(change,))
        record = _Record(Item(Priority.URGENT, alert, number), time.monotonic(), transition)
        self._log.append(record)
        self._ledger.attempt(record.item, record.at)
        self._news.set()

    @property
    def unconfirmed(self) -> int:
        """The number of recorded calls without a receipt."""
        return len(self._log) - self._confirmed

    async def request(self, message: Any) -> None:  # noqa: ANN401 - any request with an id
        """Send a request; return when it is done; raise ``RequestFailedError`` if it is refused."""
        outcome = self._requests[message.id] = asyncio.get_running_loop().create_future()
        self._questions.append(message)
        self._news.set()
        try:
            async with asyncio.timeout(_PATIENCE):
                result = await outcome
        except TimeoutError as error:
            raise RequestFailedError(f"{message.type} was not answered") from error
        finally:
            del self._requests[message.id]
        if result.problem is not None:
            raise RequestFailedError(f"{message.type}: {result.problem.code}: {result.problem.message}")

    async def run(self) -> None:
        """Keep a session open until cancelled; each one begins at the gateway's cursor."""
        async with aiohttp.ClientSession() as http:
            while True:
                with suppress(aiohttp.ClientError, OSError):  # what has no receipt is sent again
                    await self._session(http)
                self.connected.clear()
                for record in self._log[self._confirmed : self._sent]:
                    self._ledger.attempt(record.item, record.at)
                    self._ledger.doubt(record.item)
                await asyncio.sleep(_RETRY_SECONDS)

    async def _session(self, http: aiohttp.ClientSession) -> None:
        headers = {"Authorization": f"Bearer {self.token}"}
        # The certificate was compared with the pairing line's fingerprint in ``pair``.
        async with http.ws_connect(f"{self.url}/ws", headers=headers, ssl=False, max_msg_size=0) as socket:
            hello = HomeAssistantHello(
                schema=SCHEMA, min_schema=MIN_SCHEMA, version="testbed", instance="testbed", run=self._run
            )
            await socket.send_bytes(encode(hello))
            greeting = await _next(socket)
            if not isinstance(greeting, GatewayHello):
                raise ConnectionResetError
            cursor = greeting.cursor
            self._sent = cursor.n if cursor is not None and cursor.run == self._run else 0
            self._confirm(self._sent)
            async with asyncio.TaskGroup() as group:
                group.create_task(self._read(socket))
                group.create_task(self._write(socket))
                group.create_task(self._beat(socket))

    async def _read(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        while True:
            match await _next(socket):
                case Committed(position=position):
                    self._confirm(position.n)
                    self._news.set()
                case Status() as status:
                    self.status = status
                case Result(id=id_) as result if id_ in self._requests and not self._requests[id_].done():
                    self._requests[id_].set_result(result)
                case Refused() as refused:
                    raise ConnectionResetError(refused.code)
                case _:
                    pass

    async def _write(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        caught_up = False
        while True:
            self._news.clear()
            while self._questions and caught_up:
                await socket.send_bytes(encode(self._questions.popleft()))
            while self._sent < len(self._log) and self._sent - self._confirmed < _IN_FLIGHT:
                record = self._log[self._sent]
                self._sent += 1
                await socket.send_bytes(encode(record.transition))
            if not caught_up and self._sent == len(self._log):
                caught_up = True
                await socket.send_bytes(encode(CaughtUp()))
                await socket.send_bytes(encode(Subscribe(id=self._ulids(), run=self._run)))
                self.connected.set()
                continue
            await self._news.wait()

    async def _beat(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        while True:
            await socket.send_bytes(encode(Heartbeat()))
            await asyncio.sleep(HEARTBEAT_EVERY)

    def _confirm(self, number: int) -> None:
        now = time.monotonic()
        for record in self._log[self._confirmed : number]:
            self._ledger.attempt(record.item, record.at)  # the next round may have started meanwhile
            self._ledger.acknowledge(record.item, now)
            self.receipts += 1
        self._confirmed = max(self._confirmed, number)


async def _next(socket: aiohttp.ClientWebSocketResponse) -> FromGateway:
    frame = await socket.receive(timeout=_PATIENCE)
    if frame.type is not aiohttp.WSMsgType.TEXT:
        raise ConnectionResetError
    return decode(frame.data, FROM_GATEWAY)
