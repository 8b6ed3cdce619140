"""Accept connections for an aiohttp application within limits that hold against strangers.

A connection is a stranger's until a request on it was let in (``admit``). Strangers get a number of connections at a
time, together and per address, and a number of seconds; a peer that is known gets a number of connections, for as long
as it likes. aiohttp itself has no limit for anybody, and asyncio logs each failing ``accept`` anew.
"""

import asyncio
import contextlib
import logging
import math
import resource
import socket
import ssl
import time
from asyncio import sslproto
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from errno import ECONNABORTED, EMFILE, ENFILE, ENOBUFS, ENOMEM, EPROTO, errorcode
from ipaddress import ip_address, ip_network
from operator import attrgetter
from typing import Any, Self, cast

from aiohttp import web

_LOGGER = logging.getLogger(__name__)
_BACKLOG = 256
# Each TLS connection has a buffer of this length from its start: asyncio's 256 KiB are 32 MB for 128 mute strangers.
sslproto.SSLProtocol.max_size = 1 << 16
_NO_ROOM = frozenset({EMFILE, ENFILE, ENOBUFS, ENOMEM})
_GONE = frozenset({ECONNABORTED, EPROTO})
"""The connection ended before it was accepted; the next one may be well."""
_BRAKE_SECONDS = 0.25
_LOG_SECONDS = 60.0
_MOST_DESCRIPTORS = 1 << 16
_IPV6_HOST_PREFIX = 64
"""Bits of an IPv6 address that tell one subscriber from another (RFC 6177): the rest is his to choose."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ListenerLimits:
    """``strangers``: their connections at a time, ``per_address``: of one address; ``per_peer``: of one known peer.

    Times in seconds.

    ``handshake``: for TLS. ``request``: for all a stranger does on a connection, from accept to the end of the body.
    ``reserved``: file descriptors that connections leave to the rest of the process: its own deliveries, files, pipes.
    """

    strangers: int = 128
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
    """Whose it is; None: a stranger's."""
    idle_since: float = math.inf
    """When its last request ended (monotonic clock); infinite while one is under way."""

    @property
    def is_closed(self) -> bool:
        return self.transport.is_closing() if self.transport else self.task is None or self.task.done()

    def abort(self) -> None:
        """End it at once."""
        if self.transport:
            self.transport.abort()
        elif self.task:
            self.task.cancel()


class Listener:
    """Listens at one port; used as an asynchronous context."""

    def __init__(
        self, application: web.Application, limits: ListenerLimits | None = None, *, closing_seconds: float = 1.0
    ) -> None:
        """Take what to serve; ``closing_seconds``: what requests get to end when the listener closes."""
        self._limits = limits or ListenerLimits()
        application.middlewares.insert(0, self._note_idle)
        # Bodies stay as they came: unpacking them for everybody would be work for strangers.
        self._runner = web.AppRunner(
            application, access_log=None, shutdown_timeout=closing_seconds, auto_decompress=False
        )
        self._connections: dict[object, _Connection] = {}
        """By what aiohttp calls the connection's protocol; a connection in its handshake by itself."""
        self._accepting: list[asyncio.Task[None]] = []
        self._sockets: list[socket.socket] = []
        self._turned_away: Counter[str] = Counter()
        self._logged_at = float("-inf")
        self._most = 0

    @property
    def port(self) -> int:
        """The port listened at, also where 0 was asked for."""
        return int(self._sockets[0].getsockname()[1])

    @contextlib.asynccontextmanager
    async def listen(self, host: str, port: int, tls: ssl.SSLContext | None) -> AsyncIterator[Self]:
        """Serve inside the context; raise ``OSError`` if the address cannot be had."""
        await self._runner.setup()
        try:
            self._sockets = await _bound(host, port)
            self._most = _most_connections(self._limits.reserved)
            self._accepting = [asyncio.create_task(self._accept(each, tls), name="accept") for each in self._sockets]
            yield self
        finally:
            for task in self._accepting:
                task.cancel()
            await asyncio.gather(*self._accepting, return_exceptions=True)
            for each in self._sockets:
                each.close()
            for connection in self._living():
                if connection.peer is None:
                    connection.abort()
            await self._runner.cleanup()

    def admit(self, request: web.Request, peer: str) -> None:
        """Note that a known ``peer`` makes this request: its connection is no stranger's any more.

        A peer that has too many connections loses the one that has been idle for longest.
        """
        if connection := self._connections.get(request.protocol):
            others = [each for each in self._living() if each.peer == peer and each is not connection]
            if len(others) >= self._limits.per_peer:
                min(others, key=attrgetter("idle_since")).abort()
            connection.peer = peer
            if connection.deadline:
                connection.deadline.cancel()

    def is_admitted(self, request: web.Request) -> bool:
        """Say whether an earlier request on this connection was admitted."""
        connection = self._connections.get(request.protocol)
        return connection is not None and connection.peer is not None

    @web.middleware
    async def _note_idle(
        self, request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
    ) -> web.StreamResponse:
        """Tell connections that have a request under way from idle ones."""
        connection = self._connections.get(request.protocol)
        if connection is None:  # closed meanwhile
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
                if error.errno in _NO_ROOM:
                    self._turn_away("descriptors")
                    self._drop_oldest_stranger(self._living())
                elif error.errno not in _GONE:
                    _LOGGER.warning("No connection can be accepted (%s); trying again", errorcode.get(error.errno or 0))
                pause = 0.0 if error.errno in _GONE else _BRAKE_SECONDS
            else:
                self._welcome(_Connection(socket=accepted, address=address_group(address[0])), tls)
                pause = 0.0
            # While connections wait to be accepted, or fail, ``sock_accept`` ends without letting anything else run.
            await asyncio.sleep(pause)

    def _welcome(self, connection: _Connection, tls: ssl.SSLContext | None) -> None:
        living = self._living()
        strangers = [each for each in living if each.peer is None]
        neighbours = [each for each in strangers if each.address == connection.address]
        if len(neighbours) >= self._limits.per_address:
            # Not the newcomer: a site behind the same address as somebody's mute connections has to get in.
            self._turn_away("address")
            neighbours[0].abort()
        elif len(strangers) >= self._limits.strangers or len(living) >= self._most:
            self._turn_away("strangers")
            if not self._drop_oldest_stranger(living):
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

    def _living(self) -> list[_Connection]:
        """Return the open connections, oldest first, and forget those that have ended."""
        for key, connection in tuple(self._connections.items()):
            if connection.is_closed:
                del self._connections[key]
                if connection.deadline:
                    connection.deadline.cancel()
        return list(self._connections.values())

    def _drop_oldest_stranger(self, living: list[_Connection]) -> bool:
        """End the stranger's connection that has had the longest time; return whether there was one."""
        oldest = next((each for each in living if each.peer is None), None)
        if oldest:
            oldest.abort()
        return oldest is not None

    def _turn_away(self, reason: str) -> None:
        """Count what was not served; log it once a minute."""
        self._turned_away[reason] += 1
        if time.monotonic() - self._logged_at >= _LOG_SECONDS:
            self._logged_at = time.monotonic()
            _LOGGER.warning("too_many_connections: strangers hold too many connections (%s)", dict(self._turned_away))


async def _bound(host: str, port: int) -> list[socket.socket]:
    """Return listening sockets for all addresses of ``host``."""
    loop = asyncio.get_running_loop()
    found = await loop.getaddrinfo(host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    with contextlib.ExitStack() as opened:
        sockets = []
        for family, kind, protocol, _, address in dict.fromkeys(found):
            made = opened.enter_context(socket.socket(family, kind, protocol))
            made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            made.bind(address)
            made.listen(_BACKLOG)
            made.setblocking(False)
            sockets.append(made)
        opened.pop_all()
    return sockets


def _most_connections(reserved: int) -> int:
    """Return how many connections the process may hold: as many descriptors as it can get, less ``reserved``."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _MOST_DESCRIPTORS if hard == resource.RLIM_INFINITY else min(hard, _MOST_DESCRIPTORS)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
            soft = wanted
    most = _MOST_DESCRIPTORS if soft == resource.RLIM_INFINITY else min(soft, _MOST_DESCRIPTORS)
    return max(most - reserved, most // 2)


def address_group(address: str) -> str:
    """Return what counts as one address: an IPv4 address, or an IPv6 network of one subscriber."""
    parsed = ip_address(address.partition("%")[0])
    if parsed.version == 4:  # noqa: PLR2004 - the Internet Protocol's
        return str(parsed)
    return str(ip_network((parsed, _IPV6_HOST_PREFIX), strict=False))


LISTENER: web.AppKey[Listener] = web.AppKey("listener", Listener)
"""Where an application keeps who accepts its connections, so that its handlers can ``admit``."""
