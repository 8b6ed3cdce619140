"""Opening of a connected socket, plain or TLS, without blocking the event loop."""

import asyncio
import socket
import ssl
from collections.abc import Callable

from process_cosmos_gateway.devices.options import BrokerOptions

_QUICK_ACK = getattr(socket, "TCP_QUICKACK", None)


async def open_socket(broker: BrokerOptions) -> socket.socket:
    """Connect to the broker, including the TLS handshake; raise ``OSError``. Cancelling closes the socket."""
    context = await asyncio.to_thread(_tls_context, broker) if broker.tls else None
    sock = await _connect(broker.host, broker.port)
    if context is None:
        return sock
    try:
        # asyncio offers TLS as a transport only, but paho reads from a socket: so the handshake is made here.
        sock = tls_socket = context.wrap_socket(sock, server_hostname=broker.host, do_handshake_on_connect=False)
        await _do_handshake(tls_socket)
    except BaseException:
        sock.close()
        raise
    return tls_socket


def disable_tcp_delays(sock: socket.socket) -> None:
    """Disable Nagle's algorithm and delayed TCP acknowledgements.

    Both or neither: without quick acknowledgements, ``TCP_NODELAY`` can be slower. Linux resets ``TCP_QUICKACK`` after
    a while, so call this after every read.
    """
    if _QUICK_ACK is not None:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.setsockopt(socket.IPPROTO_TCP, _QUICK_ACK, 1)


def pending_tls_bytes(sock: socket.socket) -> int:
    """Return the bytes decrypted by TLS and not read yet; a selector does not report them."""
    return sock.pending() if isinstance(sock, ssl.SSLSocket) else 0


def _tls_context(broker: BrokerOptions) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=broker.ca)
    if broker.certificate is not None:
        context.load_cert_chain(broker.certificate, broker.key)
    return context


async def _connect(host: str, port: int) -> socket.socket:
    loop = asyncio.get_running_loop()
    error: OSError | None = None
    for family, kind, protocol, _, address in await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM):
        sock = socket.socket(family, kind, protocol)
        try:
            sock.setblocking(False)
            await loop.sock_connect(sock, address)
        except OSError as refused:
            sock.close()
            error = refused
        except BaseException:
            sock.close()
            raise
        else:
            return sock
    raise error or OSError("the broker's host name has no address")


async def _do_handshake(tls_socket: ssl.SSLSocket) -> None:
    loop = asyncio.get_running_loop()
    while True:
        try:
            tls_socket.do_handshake()
        except ssl.SSLWantReadError:
            await _wait_ready(loop.add_reader, loop.remove_reader, tls_socket)
        except ssl.SSLWantWriteError:
            await _wait_ready(loop.add_writer, loop.remove_writer, tls_socket)
        else:
            return


async def _wait_ready(
    add: Callable[[socket.socket, Callable[[], None]], None],
    remove: Callable[[socket.socket], object],
    sock: socket.socket,
) -> None:
    ready = asyncio.Event()
    add(sock, ready.set)
    try:
        await ready.wait()
    finally:
        remove(sock)
