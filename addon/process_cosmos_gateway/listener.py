"""A listener for an aiohttp application, with limits on unauthenticated connections.

A connection is unauthenticated until a request on it was admitted (``admit``). Unauthenticated connections are
limited in number, in total and for each address, and in time. An authenticated peer may have a number of
connections for any time. aiohttp has no such limits, and asyncio logs every failing ``accept``.
"""

import asyncio
import contextlib
import itertools
import logging
import math
import resource
import socket
import ssl
import time
from asyncio import sslproto
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from errno import ECONNABORTED, EMFILE, ENFILE, ENOBUFS, ENOMEM, EPROTO, errorcode
from ipaddress import ip_address, ip_network
from operator import attrgetter
from typing import Any, Self, cast

from aiohttp import web

_LOGGER = logging.getLogger(__name__)
_BACKLOG = 256
# Each TLS connection allocates a buffer of this size at once: 256 KiB, asyncio's default, is 32 MB for 128 idle ones.
sslproto.SSLProtocol.max_size = 1 << 16
_NO_RESOURCES = frozenset({EMFILE, ENFILE, ENOBUFS, ENOMEM})
_ENDED_EARLY = frozenset({ECONNABORTED, EPROTO})
"""The connection ended before it was accepted; the next one may succeed."""
_RETRY_SECONDS = 0.25
_LOG_SECONDS = 60.0
_MOST_DESCRIPTORS = 1 << 16
_IPV6_HOST_PREFIX = 64
"""Bits of an IPv6 address that identify a subscriber (RFC 6177), who chooses the others."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ListenerLimits:
    """Limits of connections. ``unauthenticated``: in total, ``per_address``: of one address, ``per_peer``: of one peer.

    Times in seconds. ``handshake``: for TLS. ``request``: for everything on an unauthenticated connection, from accept
    to the end of the body. ``reserved``: file descriptors left to the rest of the process: deliveries, files, pipes.
    """

    unauthenticated: int = 128
    per_address: int = 64
    per_peer: int = 16
    handshake: float = 10.0
    request: float = 30.0
    reserved: int = 256


@dataclass(slots=True, eq=False)
class _Connection:
    socket: socket.socket
    address: str
    task: asyncio.Task[None] | None = None
    transport: asyncio.Transport | None = None
    deadline: asyncio.TimerHandle | None = None
    peer: str | None = None
    """The peer; None: unauthenticated."""
    idle_since: float = math.inf
    """When the last request ended (monotonic clock); infinite while one is running."""
    number: int = field(default_factory=itertools.count(1).__next__)
    """Greater for a connection that was accepted later."""

    @property
    def is_closed(self) -> bool:
        return self.transport.is_closing() if self.transport else self.task is None or self.task.done()

    def abort(self) -> None:
        """Close the connection at once."""
        if self.transport:
            self.transport.abort()
        elif self.task:
            self.task.cancel()


class Listener:
    """Listens on one port; used as an asynchronous context."""

    def __init__(
        self, application: web.Application, limits: ListenerLimits | None = None, *, closing_seconds: float = 1.0
    ) -> None:
        """Serve ``application``; ``closing_seconds``: time for running requests to end when the listener closes."""
        self._limits = limits or ListenerLimits()
        application.middlewares.insert(0, self._note_idle)
        # Bodies are not decompressed here: for unauthenticated clients that would be wasted work.
        self._runner = web.AppRunner(
            application, access_log=None, shutdown_timeout=closing_seconds, auto_decompress=False
        )
        self._connections: dict[object, _Connection] = {}
        """Connections by aiohttp's protocol object; during the handshake by the connection itself."""
        self._accepting: list[asyncio.Task[None]] = []
        self._sockets: list[socket.socket] = []
        self._rejected: Counter[str] = Counter()
        self._logged_at = float("-inf")
        self._max_connections = 0

    @property
    def port(self) -> int:
        """The port listened on, also if 0 was requested."""
        return int(self._sockets[0].getsockname()[1])

    @contextlib.asynccontextmanager
    async def listen(self, host: str, port: int, tls: ssl.SSLContext | None) -> AsyncIterator[Self]:
        """Serve inside the context; raise ``OSError`` if the address cannot be bound."""
        await self._runner.setup()
        try:
            self._sockets = await _bind_sockets(host, port)
            self._max_connections = _most_connections(self._limits.reserved)
            self._accepting = [asyncio.create_task(self._accept(each, tls), name="accept") for each in self._sockets]
            yield self
        finally:
            for task in self._accepting:
                task.cancel()
            await asyncio.gather(*self._accepting, return_exceptions=True)
            for each in self._sockets:
                each.close()
            for connection in self._open_connections():
                if connection.peer is None:
                    connection.abort()
            await self._runner.cleanup()

    def admit(self, request: web.Request, peer: str) -> None:
        """Mark the request's connection as authenticated by ``peer``.

        If the peer has too many connections, the one idle for longest is closed.
        """
        if connection := self._connections.get(request.protocol):
            others = [each for each in self._open_connections() if each.peer == peer and each is not connection]
            if len(others) >= self._limits.per_peer:
                min(others, key=attrgetter("idle_since")).abort()
            connection.peer = peer
            if connection.deadline:
                connection.deadline.cancel()

    def is_admitted(self, request: web.Request) -> bool:
        """Return whether an earlier request on this connection was admitted."""
        connection = self._connections.get(request.protocol)
        return connection is not None and connection.peer is not None

    def connection_number(self, request: web.Request) -> int:
        """Return a number that is greater for a connection that was accepted later; 0 if it has been closed."""
        connection = self._connections.get(request.protocol)
        return connection.number if connection else 0

    @web.middleware
    async def _note_idle(
        self, request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
    ) -> web.StreamResponse:
        """Record which connections have a running request and since when the others are idle."""
        connection = self._connections.get(request.protocol)
        if connection is None:  # closed in the meantime
            return await handler(request)
        connection.idle_since = math.inf
        try:
            return await handler(request)
        finally:
            connection.idle_since = time.monotonic()

    async def _accept(self, listening: socket.socket, tls: ssl.SSLContext | None) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                accepted, address = await loop.sock_accept(listening)
            except OSError as error:
                if error.errno in _NO_RESOURCES:
                    self._count_rejection("descriptors")
                    self._drop_oldest_unauthenticated(self._open_connections())
                elif error.errno not in _ENDED_EARLY:
                    _LOGGER.warning(
                        "A connection could not be accepted (%s); retrying", errorcode.get(error.errno or 0)
                    )
                pause = 0.0 if error.errno in _ENDED_EARLY else _RETRY_SECONDS
            else:
                self._start_connection(_Connection(socket=accepted, address=address_group(address[0])), tls)
                pause = 0.0
            # While connections wait or fail, ``sock_accept`` returns without suspending: let other tasks run.
            await asyncio.sleep(pause)

    def _start_connection(self, connection: _Connection, tls: ssl.SSLContext | None) -> None:
        opened = self._open_connections()
        unauthenticated = [each for each in opened if each.peer is None]
        same_address = [each for each in unauthenticated if each.address == connection.address]
        if len(same_address) >= self._limits.per_address:
            # Close an old one, not the new one: a site behind the same address as idle connections must get in.
            self._count_rejection("address")
            same_address[0].abort()
        elif len(unauthenticated) >= self._limits.unauthenticated or len(opened) >= self._max_connections:
            self._count_rejection("strangers")
            if not self._drop_oldest_unauthenticated(opened):
                connection.socket.close()
                return
        self._connections[connection] = connection
        loop = asyncio.get_running_loop()
        connection.deadline = loop.call_later(self._limits.request, connection.abort)
        connection.task = loop.create_task(self._connect(connection, tls))

    async def _connect(self, connection: _Connection, tls: ssl.SSLContext | None) -> None:
        server = self._runner.server
        assert server  # noqa: S101 - the runner was set up

        def protocol() -> asyncio.Protocol:
            made = server()
            self._connections[made] = self._connections.pop(connection)
            return made

        handshake = {"ssl": tls, "ssl_handshake_timeout": self._limits.handshake} if tls else {}
        try:
            transport, _ = await asyncio.get_running_loop().connect_accepted_socket(
                protocol, connection.socket, **cast("Any", handshake)
            )
        except (OSError, asyncio.CancelledError) as error:  # TLS errors and time-outs are OSErrors too
            _LOGGER.debug("A connection from %s ended in its handshake: %s", connection.address, type(error).__name__)
            return
        connection.transport = transport

    def _open_connections(self) -> list[_Connection]:
        """Return the open connections, oldest first, and remove closed ones."""
        for key, connection in tuple(self._connections.items()):
            if connection.is_closed:
                del self._connections[key]
                if connection.deadline:
                    connection.deadline.cancel()
        return list(self._connections.values())

    def _drop_oldest_unauthenticated(self, opened: list[_Connection]) -> bool:
        """Close the oldest unauthenticated connection; return whether there was one."""
        oldest = next((each for each in opened if each.peer is None), None)
        if oldest:
            oldest.abort()
        return oldest is not None

    def _count_rejection(self, reason: str) -> None:
        """Count a rejection by reason; log the counts once a minute."""
        self._rejected[reason] += 1
        if time.monotonic() - self._logged_at >= _LOG_SECONDS:
            self._logged_at = time.monotonic()
            _LOGGER.warning(
                "too_many_connections: too many unauthenticated connections; closed so far by reason: %s",
                dict(self._rejected),
            )


async def _bind_sockets(host: str, port: int) -> list[socket.socket]:
    """Return listening sockets for all addresses of ``host``."""
    loop = asyncio.get_running_loop()
    found = await loop.getaddrinfo(host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    with contextlib.ExitStack() as opened:
        sockets = []
        for family, kind, protocol, _, address in dict.fromkeys(found):
            made = opened.enter_context(socket.socket(family, kind, protocol))
            made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                # Otherwise the IPv6 socket would also occupy the port of the IPv4 one.
                made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            made.bind(address)
            made.listen(_BACKLOG)
            made.setblocking(False)
            sockets.append(made)
        opened.pop_all()
    return sockets


def _most_connections(reserved: int) -> int:
    """Return the limit of connections: the file descriptors the process can get, less ``reserved``."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _MOST_DESCRIPTORS if hard == resource.RLIM_INFINITY else min(hard, _MOST_DESCRIPTORS)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
            soft = wanted
    most = _MOST_DESCRIPTORS if soft == resource.RLIM_INFINITY else min(soft, _MOST_DESCRIPTORS)
    return max(most - reserved, most // 2)


def address_group(address: str) -> str:
    """Return the unit of the limit per address: an IPv4 address, or the IPv6 network of one subscriber."""
    parsed = ip_address(address.partition("%")[0])
    if parsed.version == 4:  # noqa: PLR2004 - the Internet Protocol's
        return str(parsed)
    return str(ip_network((parsed, _IPV6_HOST_PREFIX), strict=False))


LISTENER: web.AppKey[Listener] = web.AppKey("listener", Listener)
"""The application's key of its listener, with which handlers call ``admit``."""
