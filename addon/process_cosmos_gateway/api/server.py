"""HTTP server: sessions with Home Assistant, pairing, health, local programs and the status page."""

import asyncio
import logging
import ssl
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from errno import EADDRINUSE
from http import HTTPStatus

from aiohttp import ClientConnectionResetError, WSCloseCode, WSMsgType, web
from aiohttp.http_exceptions import HttpProcessingError
from aiohttp.log import server_logger

from process_cosmos_gateway.contract.codec import MAX_FRAME, decode_json, encode, members, parse
from process_cosmos_gateway.contract.decoder import Decoder
from process_cosmos_gateway.contract.errors import Code, ContractError
from process_cosmos_gateway.contract.local_programs import MOST_CONNECTIONS
from process_cosmos_gateway.contract.pairing import Paired, PairingRequest
from process_cosmos_gateway.contract.session import GatewayHello, HomeAssistantHello, Refused, Versions
from process_cosmos_gateway.contract.versions import MIN_SCHEMA, SCHEMA
from process_cosmos_gateway.errors import RequestRefusedError, StartError, StoreError
from process_cosmos_gateway.listener import LISTENER, Listener, ListenerLimits
from process_cosmos_gateway.store import Store

from .ingress.page import StatusPage
from .local_programs.admission import BEARER, Admission
from .pairing import Pairing
from .replies import json_reply, problem_reply
from .session import Services, Session, log_report, refuse

_LOGGER = logging.getLogger(__name__)
_MOST_BODY = 1 << 14
_CLOSING_SECONDS = 1.0
_LIMITS = ListenerLimits(per_peer=2 * MOST_CONNECTIONS)
"""A program may use all connections of both endpoints at once; any further ones are idle and can be closed."""
_HEALTH_SECONDS = 5.0
_NO_TOKEN = "This token is not valid for a session. Pair again."  # noqa: S105 - an error message


@dataclass(eq=False, repr=False)
class Server:
    """HTTP server for ``/ws``, ``/health``, ``/v1/pair``, local programs, and under the Supervisor the status page."""

    services: Services
    store: Store
    pairing: Pairing
    version: str
    admission: Admission | None = None
    page: StatusPage | None = None
    _session: Session | None = field(init=False, default=None)
    _opening: asyncio.Lock = field(init=False, default_factory=asyncio.Lock)
    connected: asyncio.Event = field(init=False, default_factory=asyncio.Event)
    """Event that is set when a Home Assistant has opened a session."""

    @asynccontextmanager
    async def listen(self, host: str, port: int, tls: ssl.SSLContext | None) -> AsyncIterator[None]:
        """Serve while the context is open; raise ``StartError`` if the address cannot be bound."""
        application = web.Application(client_max_size=_MOST_BODY)
        listener = Listener(application, _LIMITS, closing_seconds=_CLOSING_SECONDS)
        application[LISTENER] = listener
        application.router.add_get("/ws", self._serve_session)
        application.router.add_get("/health", self._serve_health)
        application.router.add_post("/v1/pair", self._serve_pairing)
        if self.page:
            self.page.add_to(application, self._has_session)
        application.on_shutdown.append(self._end_session)
        if self.admission:
            self.admission.add_to(application)
        server_logger.addFilter(_is_not_bad_http)
        async with AsyncExitStack() as stack:
            try:
                await stack.enter_async_context(listener.listen(host, port, tls))
            except OSError as error:
                if error.errno == EADDRINUSE:
                    message = f"Another program listens on port {port}. Stop it, or give this one another `port`."
                    raise StartError(message, "start_port_taken") from error
                message = f"Cannot listen on {host} port {port}: {error.strerror}. Correct `host` and `port`."
                raise StartError(message) from error
            _LOGGER.info("Listening on %s port %d%s", host, port, " (TLS)" if tls else "")
            yield

    async def _serve_health(self, _: web.Request) -> web.Response:
        try:
            async with asyncio.timeout(_HEALTH_SECONDS):
                await self.store.read(lambda transaction: transaction.rows("SELECT 1"))
        except StoreError, TimeoutError:
            return json_reply({"status": Code.STORE_FAILED}, HTTPStatus.SERVICE_UNAVAILABLE)
        return json_reply({"status": "ok", "version": self.version})

    async def _serve_pairing(self, request: web.Request) -> web.Response:
        try:
            pairing_request = parse(PairingRequest, decode_json(await request.read()))
            token = await self.pairing.pair(pairing_request)
        except web.HTTPRequestEntityTooLarge:
            return problem_reply(
                Code.TOO_LARGE, f"The request must not be longer than {_MOST_BODY} bytes.", HTTPStatus.CONTENT_TOO_LARGE
            )
        except ContractError as error:
            return problem_reply(error.code, str(error), HTTPStatus.BAD_REQUEST)
        except RequestRefusedError as error:
            _LOGGER.warning("A pairing was refused because the pairing line is wrong, used or too old; make a new line")
            return problem_reply(error.code, str(error), HTTPStatus.FORBIDDEN)
        except StoreError as error:
            _LOGGER.exception("%s: A pairing failed because of the disk; make a new pairing line", error.code)
            return problem_reply(error.code, f"{error} Print a new line.", HTTPStatus.SERVICE_UNAVAILABLE)
        _LOGGER.info("Paired with a Home Assistant")
        async with self._opening:  # a session that is being opened was authorized with the previous token
            await self._end_session()
        return json_reply(Paired(token=token, site=self.store.site, version=self.version))

    def _has_token(self, request: web.Request) -> bool:
        header = request.headers.get("Authorization", "")
        return header.startswith(BEARER) and self.pairing.has_token(header.removeprefix(BEARER))

    async def _serve_session(self, request: web.Request) -> web.StreamResponse:
        if not self._has_token(request):
            return problem_reply(Code.UNAUTHORIZED, _NO_TOKEN, HTTPStatus.UNAUTHORIZED)
        request.app[LISTENER].admit(request, "home assistant")
        # One byte more than the contract allows: aiohttp refuses a frame of exactly its limit.
        socket = web.WebSocketResponse(timeout=_CLOSING_SECONDS, compress=False, max_msg_size=MAX_FRAME + 1)
        await socket.prepare(request)
        try:
            hello = await self._hello(socket)
            session = await self._open(request, socket, hello)
        except RequestRefusedError as error:
            await refuse(socket, Refused(code=error.code, message=str(error)))
            return socket
        except ClientConnectionResetError:
            return socket
        await session.serve()
        await socket.close(code=WSCloseCode.GOING_AWAY)
        return socket

    async def _hello(self, socket: web.WebSocketResponse) -> HomeAssistantHello:
        """Return the hello from the first frame; raise ``RequestRefusedError`` if it is missing, late or invalid."""
        try:
            frame = await socket.receive(timeout=self.services.limits.hello)
            if frame.type in (WSMsgType.TEXT, WSMsgType.BINARY):
                return self._read_hello(frame.data)
        except ContractError as error:
            raise RequestRefusedError(error.code, str(error)) from error
        except TimeoutError as error:
            raise RequestRefusedError(Code.MALFORMED, "No hello was received in time.") from error
        raise RequestRefusedError(Code.MALFORMED, "The first frame must be a hello.")

    def _read_hello(self, frame: bytes | str) -> HomeAssistantHello:
        """Return the hello of a Home Assistant that may connect; raise ``ContractError``, ``RequestRefusedError``."""
        document = members(frame)
        if document.get("type") != HomeAssistantHello.type:
            raise RequestRefusedError(Code.MALFORMED, "The first frame must be a hello.")
        # First: the rest of a hello of another schema may be unreadable.
        versions = parse(Versions, document, HomeAssistantHello.type)
        if versions.schema < MIN_SCHEMA:
            raise RequestRefusedError(Code.SCHEMA_TOO_OLD, "The integration is too old for this app. Update it.")
        if versions.min_schema > SCHEMA:
            raise RequestRefusedError(Code.SCHEMA_TOO_NEW, "The integration is too new for this app. Update the app.")
        hello = Decoder({HomeAssistantHello.type: HomeAssistantHello}, log_report).decode(frame)
        if not self.pairing.serves(hello.instance):
            raise RequestRefusedError(Code.OTHER_HOME_ASSISTANT, "This gateway serves another Home Assistant.")
        return hello

    async def _open(
        self, request: web.Request, socket: web.WebSocketResponse, home_assistant: HomeAssistantHello
    ) -> Session:
        """End the previous session, send the hello, and return the new session."""
        async with self._opening:
            # Checked before the old session ends: another Home Assistant may have been paired in the meantime.
            if not self._has_token(request):
                raise RequestRefusedError(Code.UNAUTHORIZED, _NO_TOKEN)
            # Before the cursor is read: a transition that the old session still applied would make it too old.
            await self._end_session()
            try:
                cursor, summaries = await self.services.alerts.cursor_and_summaries()
            except StoreError as error:
                raise RequestRefusedError(Code.STORE_FAILED, "The gateway could not read its disk.") from error
            if not self._has_token(request):
                raise RequestRefusedError(Code.UNAUTHORIZED, _NO_TOKEN)  # a pairing may have happened while waiting
            hello = GatewayHello(
                schema=SCHEMA,
                min_schema=MIN_SCHEMA,
                version=self.version,
                site=self.store.site,
                epoch=self.store.epoch,
                cursor=cursor,
                summaries=summaries,
                entry=self.services.alerts.entry,
            )
            # Sent before the session exists, so that no other message becomes the first frame.
            await socket.send_frame(encode(hello, home_assistant.schema), WSMsgType.TEXT)
            self._session = Session(socket, self.services, home_assistant)
        self.connected.set()
        return self._session

    def _has_session(self) -> bool:
        return self._session is not None and not self._session.finished.is_set()

    async def _end_session(self, _: web.Application | None = None) -> None:
        if self._session is not None:
            self._session.end()
            await self._session.finished.wait()


def _is_not_bad_http(record: logging.LogRecord) -> bool:
    """Filter out errors about invalid HTTP, with which any client could fill the disk with log lines."""
    return not (record.exc_info and isinstance(record.exc_info[1], HttpProcessingError))
