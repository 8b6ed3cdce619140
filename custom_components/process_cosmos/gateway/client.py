"""Client of the gateway's WebSocket: handshake, heartbeats, requests; independent of Home Assistant."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import replace
from http import HTTPStatus
from typing import Self

import aiohttp
import orjson

from custom_components.process_cosmos.contract.codec import MAX_FRAME, decode, decode_json, encode, parse
from custom_components.process_cosmos.contract.destinations import DestinationTested, RejectedEvents
from custom_components.process_cosmos.contract.devices import Device, Snapshot
from custom_components.process_cosmos.contract.errors import Code, ContractError
from custom_components.process_cosmos.contract.messages import FROM_GATEWAY, FromGateway, FromHomeAssistant, Request
from custom_components.process_cosmos.contract.pairing import Paired, PairingLine, PairingRequest
from custom_components.process_cosmos.contract.session import (
    HEARTBEAT_SECONDS,
    MIN_SCHEMA,
    SCHEMA,
    SILENCE_SECONDS,
    GatewayHello,
    Heartbeat,
    HomeAssistantHello,
    Problem,
    Refused,
    Result,
)
from custom_components.process_cosmos.errors import CosmosError

CONFIRM_SECONDS = 1.0
"""Seconds within which processed changes are confirmed: after a crash of Home Assistant, others count as missed."""

HANDSHAKE_WITHIN = 10.0
CLOSE_WITHIN = 1.0
"""Seconds that closing may take with a gateway that hangs, because it delays a reconnect or a reload."""

REQUEST_WITHIN = 30.0
"""Seconds that a request may take; an enrolment includes a round trip to the cloud endpoint."""

CANNOT_CONNECT = "cannot_connect"
GATEWAY_AWAY = "gateway_away"


type Reply = Result | RejectedEvents | DestinationTested
"""The reply to a request."""


class GatewayError(CosmosError):
    """A failure of the gateway connection: ``code`` for programs, the message for people; without secrets."""

    def __init__(self, code: str, message: str) -> None:
        """Create the error with a stable code and a sentence."""
        super().__init__(message)
        self.code = code


class GatewayAwayError(GatewayError):
    """No response or a lost connection: try again later."""


class GatewayRefusedError(GatewayError):
    """A refusal that needs a person: another gateway, an unknown token, or incompatible versions."""


class RequestRefusedError(GatewayError):
    """The gateway refused a request: report it to the caller."""


class GatewayClient:
    """Opens sessions with one gateway."""

    def __init__(self, http: aiohttp.ClientSession, url: str, token: str, sha256: str | None) -> None:
        """Create a client with the token of a pairing and the SHA-256 of the certificate (None: plain HTTP)."""
        self._http = http
        self._url = url
        self._token = token
        self._ssl = _pinned(sha256)

    async def connect(self, hello: HomeAssistantHello) -> Session:
        """Connect and complete the handshake; raise ``GatewayAwayError`` or ``GatewayRefusedError``."""
        # In this order, because the time-out raises as it is left and has to be translated too.
        async with _translate_errors(), asyncio.timeout(HANDSHAKE_WITHIN):
            socket = await self._http.ws_connect(
                f"{self._url}/ws",
                headers={"Authorization": f"Bearer {self._token}"},
                ssl=self._ssl,
                timeout=aiohttp.ClientWSTimeout(ws_close=CLOSE_WITHIN),
                max_msg_size=MAX_FRAME + 1,  # aiohttp refuses a frame of exactly its limit
            )
            try:
                await socket.send_bytes(encode(hello))
                greeting = _parse_hello(await socket.receive())
            except BaseException:
                # Also after a time-out or a cancellation, because no one else knows this socket.
                await socket.close()
                raise
        return Session(socket, greeting)


class Session:
    """An open session, used as a context manager that closes it. ``hello``: the hello message of the gateway."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse, hello: GatewayHello) -> None:
        """Wrap a socket after the handshake."""
        self.hello = hello
        self.ignored = 0
        """Number of frames ignored since the session opened: not understood, perhaps of a newer gateway."""
        self.processed_fn: Callable[[], int | None] = lambda: None
        """Returns the number up to which all changes were processed; None: confirm nothing."""
        self._socket = socket
        self._replies: dict[str, asyncio.Future[Reply]] = {}
        self._pages: tuple[Device, ...] = ()
        self._confirmed: int | None = None

    async def __aenter__(self) -> Self:
        """Start sending heartbeats."""
        self._heartbeats = asyncio.create_task(self._send_heartbeats(), name="process_cosmos heartbeats")
        return self

    async def __aexit__(self, *_: object) -> None:
        """Confirm processed changes, then close; pending requests fail with ``GatewayAwayError``."""
        self._heartbeats.cancel()
        await asyncio.gather(self._heartbeats, return_exceptions=True)
        # Before anything waits here: no caller should wait for a gateway that hangs.
        self._fail_replies()
        with contextlib.suppress(GatewayAwayError):
            async with _translate_errors(), asyncio.timeout(CLOSE_WITHIN):
                await self.confirm()
        await self._socket.close()

    async def send(self, message: FromHomeAssistant) -> None:
        """Send one message; raise ``GatewayAwayError`` if the connection is lost."""
        async with _translate_errors():
            await self._socket.send_bytes(encode(message))

    async def confirm(self) -> None:
        """Send a heartbeat with the number of the newest processed change; raise ``GatewayAwayError``."""
        self._confirmed = self.processed_fn()
        await self.send(Heartbeat(sequence=self._confirmed))

    async def request(self, message: Request) -> Reply:
        """Send ``message`` and return its reply; requires that ``messages`` is being iterated concurrently.

        Raises ``RequestRefusedError`` with the gateway's code, ``GatewayAwayError`` if no reply arrives in time.
        """
        reply: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()
        # Before sending, because the reply may arrive before ``send`` returns.
        self._replies[message.id] = reply
        try:
            async with _translate_errors(), asyncio.timeout(REQUEST_WITHIN):
                await self.send(message)
                result = await reply
        finally:
            del self._replies[message.id]
        if isinstance(result, Result) and result.problem:
            raise RequestRefusedError(result.problem.code, result.problem.message)
        return result

    async def messages(self) -> AsyncIterator[FromGateway]:
        """Yield the messages of the gateway in order, without replies, with the pages of a snapshot joined.

        Raises the ``GatewayError`` that ends the session.
        """
        while True:
            try:
                async with _translate_errors():
                    frame = await self._socket.receive(timeout=SILENCE_SECONDS)
                message = _decode(frame)
            except GatewayAwayError:
                self._fail_replies()
                raise
            except ContractError:
                self.ignored += 1
                continue
            if isinstance(message, Refused):
                self._fail_replies()
                raise _refusal(message)
            if isinstance(message, Snapshot):
                if whole := self._join_pages(message):
                    yield whole
            elif not isinstance(message, Result | RejectedEvents | DestinationTested):
                yield message
            # The request may have timed out while its reply was on the way.
            elif (reply := self._replies.get(message.id)) and not reply.done():
                reply.set_result(message)

    def _join_pages(self, page: Snapshot) -> Snapshot | None:
        """Return the joined snapshot if ``page`` is its last page; None while more pages follow."""
        devices = (*self._pages, *page.devices)
        self._pages = devices if page.more else ()
        return None if page.more else replace(page, devices=devices)

    def _fail_replies(self) -> None:
        for reply in self._replies.values():
            if not reply.done():
                reply.set_exception(_connection_lost())

    async def _send_heartbeats(self) -> None:
        due = time.monotonic() + HEARTBEAT_SECONDS
        with contextlib.suppress(GatewayAwayError):  # ``messages`` raises it too
            while True:
                await asyncio.sleep(CONFIRM_SECONDS)
                if self.processed_fn() != self._confirmed or time.monotonic() >= due:
                    await self.confirm()
                    due = time.monotonic() + HEARTBEAT_SECONDS


async def pair(http: aiohttp.ClientSession, line: PairingLine, instance: str) -> Paired:
    """Redeem a pairing line; raise ``GatewayAwayError`` or ``GatewayRefusedError`` with the gateway's code."""
    body = orjson.dumps(PairingRequest(secret=line.secret, instance=instance))
    async with _translate_errors(), asyncio.timeout(HANDSHAKE_WITHIN):
        async with http.post(
            f"{line.url}/v1/pair",
            data=body,
            headers={"Content-Type": "application/json"},
            ssl=_pinned(line.sha256),
            # The body contains the secret, which must not follow a redirect to another server.
            allow_redirects=False,
        ) as reply:
            document = decode_json(await reply.content.read(MAX_FRAME + 1))
        if reply.status == HTTPStatus.OK:
            return parse(Paired, document)
        problem = parse(Problem, document)
    raise GatewayRefusedError(problem.code, problem.message)


def _pinned(sha256: str | None) -> aiohttp.Fingerprint | bool:
    """Return the TLS setting that accepts only this certificate, for any host name; None: the system's authorities."""
    return True if sha256 is None else aiohttp.Fingerprint(bytes.fromhex(sha256))


def _parse_hello(frame: aiohttp.WSMessage) -> GatewayHello:
    match _decode(frame):
        case GatewayHello() as hello if hello.schema < MIN_SCHEMA:
            raise GatewayRefusedError(Code.SCHEMA_TOO_OLD, "The Process Cosmos app is too old for this integration")
        case GatewayHello() as hello if hello.min_schema > SCHEMA:
            raise GatewayRefusedError(Code.SCHEMA_TOO_NEW, "The Process Cosmos app is too new for this integration")
        case GatewayHello() as hello:
            return hello
        case Refused() as refused:
            raise _refusal(refused)
        case _:
            raise ContractError("$.type", "must be gateway_hello or refused")


# The gateway reports codes about this side: if we are too old for it, it is too new for us.
_CODES_AS_SEEN_HERE: Mapping[str, Code] = {
    Code.SCHEMA_TOO_OLD: Code.SCHEMA_TOO_NEW,
    Code.SCHEMA_TOO_NEW: Code.SCHEMA_TOO_OLD,
}


def _refusal(refused: Refused) -> GatewayRefusedError:
    return GatewayRefusedError(_CODES_AS_SEEN_HERE.get(refused.code, refused.code), refused.message)


def _decode(frame: aiohttp.WSMessage) -> FromGateway:
    if frame.type in (aiohttp.WSMsgType.TEXT, aiohttp.WSMsgType.BINARY):
        return decode(frame.data, FROM_GATEWAY)
    raise _connection_lost()


def _connection_lost() -> GatewayAwayError:
    return GatewayAwayError(GATEWAY_AWAY, "The connection to the gateway was lost")


@contextlib.asynccontextmanager
async def _translate_errors() -> AsyncIterator[None]:
    """Translate network exceptions into the errors of this module."""
    try:
        yield
    except aiohttp.ServerFingerprintMismatch as error:
        raise GatewayRefusedError(
            Code.IDENTITY_MISMATCH, "A server with another certificate responds at that address"
        ) from error
    except aiohttp.WSServerHandshakeError as error:
        if error.status == HTTPStatus.UNAUTHORIZED:
            raise GatewayRefusedError(Code.UNAUTHORIZED, "The gateway does not know this Home Assistant") from error
        raise GatewayAwayError(CANNOT_CONNECT, f"The gateway replied {error.status}") from error
    except ContractError as error:
        raise GatewayAwayError(CANNOT_CONNECT, f"The server is not a Process Cosmos gateway ({error})") from error
    except (aiohttp.ClientError, OSError, TimeoutError) as error:
        raise GatewayAwayError(CANNOT_CONNECT, f"No response ({type(error).__name__})") from error
