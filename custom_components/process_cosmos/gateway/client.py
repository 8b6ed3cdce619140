"""Client of the gateway's WebSocket: handshake, heartbeats, requests; independent of Home Assistant."""

import asyncio
import contextlib
import logging
import time
import uuid
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import replace
from http import HTTPStatus
from typing import Any, Self

import aiohttp
import orjson

from custom_components.process_cosmos.contract.alerts import Propose
from custom_components.process_cosmos.contract.codec import MAX_FRAME, decode_json, encode, members, parse
from custom_components.process_cosmos.contract.decoder import Decoder
from custom_components.process_cosmos.contract.destinations import DestinationTested, RejectedEvents
from custom_components.process_cosmos.contract.devices import Device, Snapshot
from custom_components.process_cosmos.contract.durations import (
    HEARTBEAT_EVERY,
    HELLO_WITHIN,
    REQUEST_WITHIN,
    SILENCE_LIMIT,
)
from custom_components.process_cosmos.contract.errors import Code, ContractError, UnknownTypeError
from custom_components.process_cosmos.contract.messages import FROM_GATEWAY, FromGateway, FromHomeAssistant, Request
from custom_components.process_cosmos.contract.pairing import Paired, PairingLine, PairingRequest
from custom_components.process_cosmos.contract.session import (
    GatewayHello,
    Heartbeat,
    HomeAssistantHello,
    Problem,
    Refused,
    Result,
    Versions,
)
from custom_components.process_cosmos.contract.versions import MIN_SCHEMA, SCHEMA, schema_of, schema_of_type
from custom_components.process_cosmos.errors import CosmosError

CONFIRM_SECONDS = 1.0
"""Seconds within which processed changes are confirmed: after a crash of Home Assistant, others count as missed."""

CLOSE_WITHIN = 1.0
"""Seconds that closing may take with a gateway that hangs, because it delays a reconnect or a reload."""

_LOGGER = logging.getLogger(__name__)

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


class FrameInvalidError(GatewayRefusedError):
    """A frame that one side cannot read, so that no session is possible. ``gateway``: versions, if they are known."""

    def __init__(self, message: str, gateway: Versions | None = None) -> None:
        """Create the error with path and reason, and what the gateway's hello says of its versions."""
        super().__init__(Code.MALFORMED, message)
        self.gateway = gateway


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
        async with _translate_errors(), asyncio.timeout(HELLO_WITHIN):
            socket = await self._http.ws_connect(
                f"{self._url}/ws",
                headers={"Authorization": f"Bearer {self._token}"},
                ssl=self._ssl,
                timeout=aiohttp.ClientWSTimeout(ws_close=CLOSE_WITHIN),
                max_msg_size=MAX_FRAME + 1,  # aiohttp refuses a frame of exactly its limit
            )
            try:
                await socket.send_bytes(encode(hello))
                decoder = Decoder(FROM_GATEWAY, _log_report)
                greeting = _parse_hello(_data_of(await socket.receive()), decoder)
            except BaseException:
                # Also after a time-out or a cancellation, because no one else knows this socket.
                await socket.close()
                raise
        return Session(socket, greeting, decoder)


class Session:
    """An open session, used as a context manager that closes it. ``hello``: the hello message of the gateway."""

    def __init__(
        self, socket: aiohttp.ClientWebSocketResponse, hello: GatewayHello, decoder: Decoder[FromGateway]
    ) -> None:
        """Wrap a socket after the handshake."""
        self.hello = hello
        self.ignored = 0
        """Number of frames passed over since the session opened: of an unknown type, or invalid."""
        self.invalid_fn: Callable[[str], None] = lambda _: None
        """Called with path and reason of a frame that this side or the gateway cannot read; the session continues."""
        self.processed_fn: Callable[[], int | None] = lambda: None
        """Returns the number up to which all changes were processed; None: confirm nothing."""
        self._socket = socket
        self._decoder = decoder
        self._replies: dict[str, asyncio.Future[Reply]] = {}
        self._pages: tuple[Device, ...] = ()
        self._confirmed: int | None = None

    async def __aenter__(self) -> Self:
        """Start sending heartbeats."""
        self._heartbeats = asyncio.create_task(self._send_heartbeats(), name="process_cosmos heartbeats")
        return self

    async def __aexit__(self, *_: object) -> None:
        """Confirm processed changes, then close; pending requests fail with ``GatewayAwayError``."""
        # Before anything waits here: no caller should wait for a gateway that hangs.
        self._fail_replies()
        self._heartbeats.cancel()
        try:
            await asyncio.gather(self._heartbeats, return_exceptions=True)
            with contextlib.suppress(GatewayAwayError):
                async with _translate_errors(), asyncio.timeout(CLOSE_WITHIN):
                    await self.confirm()
        finally:
            await self._socket.close()  # also after a cancellation, because no one else knows this socket

    async def send(self, message: FromHomeAssistant) -> None:
        """Send one message, unless the gateway is too old for it; raise ``GatewayAwayError`` without a connection."""
        if schema_of_type(message) <= self.hello.schema:
            async with _translate_errors():
                await self._socket.send_bytes(encode(_with_id(message), self.hello.schema))

    async def confirm(self) -> None:
        """Send a heartbeat with the number of the newest processed change; raise ``GatewayAwayError``."""
        self._confirmed = self.processed_fn()
        await self.send(Heartbeat(sequence=self._confirmed))

    async def request(self, message: Request) -> Reply:
        """Send ``message`` with an id and return its reply; ``messages`` must be iterated concurrently.

        Raises ``RequestRefusedError`` with the gateway's code, or because the gateway is too old for the request;
        ``GatewayAwayError`` if no reply arrives in time.
        """
        if schema_of(message) > self.hello.schema:
            # Without what an older gateway does not know, it would do something else than was asked for.
            raise RequestRefusedError(Code.SCHEMA_TOO_OLD, "The Process Cosmos app is too old for this. Update it")
        message = _with_id(message)
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
            # The gateway's own refusals begin with a sentence, those of a frame with the path of the mistake.
            if result.problem.message.startswith(("$", f"{message.type}.")):
                self.invalid_fn(result.problem.message)
            raise RequestRefusedError(result.problem.code, result.problem.message)
        return result

    async def messages(self) -> AsyncIterator[FromGateway]:
        """Yield the messages of the gateway in order, without replies, with the pages of a snapshot joined.

        Raises the ``GatewayError`` that ends the session.
        """
        while True:
            try:
                async with _translate_errors():
                    frame = await self._socket.receive(timeout=SILENCE_LIMIT)
                data = _data_of(frame)
            except GatewayAwayError:
                self._fail_replies()
                raise
            if (message := self._read(data)) is None:
                continue
            if isinstance(message, Refused):
                self._fail_replies()
                raise _refusal(message)
            if isinstance(message, Propose) and (refusal := self._unsupported(message)):
                await self.send(refusal)
                continue
            if isinstance(message, Snapshot):
                if whole := self._join_pages(message):
                    yield whole
            elif not isinstance(message, Result | RejectedEvents | DestinationTested):
                yield message
            # The request may have timed out while its reply was on the way.
            elif (reply := self._replies.get(message.id)) and not reply.done():
                reply.set_result(message)

    def _read(self, data: bytes | str) -> FromGateway | None:
        """Return the message of a frame; None if it is passed over."""
        try:
            message = self._decoder.decode(data)
        except ContractError as error:
            self.ignored += 1
            if not isinstance(error, UnknownTypeError):
                self.invalid_fn(str(error))
                self._refuse_reply(data, error)
            return None
        return message

    def _unsupported(self, proposal: Propose) -> Result | None:
        """Return the refusal of a proposal that may be of an unknown kind; None if it is an answer that is known."""
        # Not an acknowledgement, which would silence an alert although a person may have asked for the opposite.
        if not self._decoder.unknown or proposal.answer is not None or proposal.acknowledge_for is not None:
            return None
        sentence = f"The integration does not know {', '.join(self._decoder.unknown)}. Update it."
        return Result(id=proposal.id, problem=Problem(code=Code.UNSUPPORTED, message=sentence))

    def _refuse_reply(self, data: bytes | str, error: ContractError) -> None:
        """Fail the request whose reply cannot be read, instead of waiting for it in vain."""
        request_id = members(data).get("id")
        reply = self._replies.get(request_id) if isinstance(request_id, str) else None
        if reply and not reply.done():
            reply.set_exception(RequestRefusedError(error.code, str(error)))

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
        due = time.monotonic() + HEARTBEAT_EVERY
        with contextlib.suppress(GatewayAwayError):  # ``messages`` raises it too
            while True:
                await asyncio.sleep(CONFIRM_SECONDS)
                if self.processed_fn() != self._confirmed or time.monotonic() >= due:
                    await self.confirm()
                    due = time.monotonic() + HEARTBEAT_EVERY


def _log_report(path: str, reason: str) -> None:
    _LOGGER.warning("The app sent a frame in which %s %s. Are integration and app of one version?", path, reason)


async def pair(http: aiohttp.ClientSession, line: PairingLine, instance: str) -> Paired:
    """Redeem a pairing line; raise ``GatewayAwayError`` or ``GatewayRefusedError`` with the gateway's code."""
    body = orjson.dumps(PairingRequest(secret=line.secret, instance=instance))
    async with _translate_errors(), asyncio.timeout(HELLO_WITHIN):
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


def _parse_hello(data: bytes | str, decoder: Decoder[FromGateway]) -> GatewayHello:
    kind, versions = members(data).get("type"), None
    try:
        if kind == GatewayHello.type:
            # First: the rest of a hello of another schema may be unreadable.
            versions = parse(Versions, members(data), GatewayHello.type)
            if versions.schema < MIN_SCHEMA:
                raise GatewayRefusedError(Code.SCHEMA_TOO_OLD, "The Process Cosmos app is too old for this integration")
            if versions.min_schema > SCHEMA:
                raise GatewayRefusedError(Code.SCHEMA_TOO_NEW, "The Process Cosmos app is too new for this integration")
        message = decoder.decode(data)
    except ContractError as error:
        if kind == GatewayHello.type:
            raise FrameInvalidError(str(error), versions) from error
        raise
    match message:
        case GatewayHello() as hello:
            return hello
        case Refused() as refused:
            raise _refusal(refused)
        case _:
            raise ContractError("$.type", "must be gateway_hello or refused")


def _with_id[M](message: M) -> M:
    """Return ``message`` with an id of its own if it is a request without one."""
    sent: Any = message
    return replace(sent, id=uuid.uuid4().hex) if getattr(message, "id", None) == "" else message


# The gateway reports codes about this side: if we are too old for it, it is too new for us.
_CODES_AS_SEEN_HERE: Mapping[str, Code] = {
    Code.SCHEMA_TOO_OLD: Code.SCHEMA_TOO_NEW,
    Code.SCHEMA_TOO_NEW: Code.SCHEMA_TOO_OLD,
}


def _refusal(refused: Refused) -> GatewayRefusedError:
    if refused.code in (Code.MALFORMED, Code.TOO_DEEP):
        return FrameInvalidError(refused.message)
    return GatewayRefusedError(_CODES_AS_SEEN_HERE.get(refused.code, refused.code), refused.message)


def _data_of(frame: aiohttp.WSMessage) -> bytes | str:
    if frame.type in (aiohttp.WSMsgType.TEXT, aiohttp.WSMsgType.BINARY):
        data: bytes | str = frame.data
        return data
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
