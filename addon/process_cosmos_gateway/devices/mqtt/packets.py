"""A packet filter between the broker and paho that never holds a packet above the size limit in memory.

paho collects a packet of up to 256 MB before it looks at it, and MQTT 3.1.1 has no way to tell the broker a limit.
"""

import asyncio
import socket
from collections.abc import Callable, Generator
from typing import cast, override

from process_cosmos_gateway.errors import GatewayError

MAX_PACKET = 512 * 1024
"""Bytes of the largest packet read, announced to the broker with MQTT 5: twice the longest Thing Description."""

_PUBLISH = 3
_DISCONNECT = 14
_MAX_HEADER_BYTES = 5
_READ_BYTES = 4096
"""Bytes read at once. They may hold over a hundred messages, whose handling delays all other tasks."""


class TooLargeError(GatewayError):
    """The broker sent a packet over the limit that is not a PUBLISH; the stream cannot be read any further."""


class PacketStream(asyncio.BufferedProtocol):
    """The end of a connection that paho uses as a socket; leaves out the payload of messages above ``MAX_PACKET``.

    Such a message keeps its topic and packet id, so that it can be acknowledged. ``oversized`` is its size in bytes
    until the next packet begins, otherwise 0. ``disconnect_reason``: the reason code of the broker's DISCONNECT, 0
    without one.
    """

    def __init__(self, *, has_properties: bool, on_bytes: Callable[[], None], on_lost: Callable[[], None]) -> None:
        """``has_properties``: the packets are MQTT 5. ``on_bytes`` must read until ``has_bytes`` is False."""
        self._has_properties = has_properties
        self._on_bytes = on_bytes
        self._on_lost = on_lost
        self._transport: asyncio.Transport | None = None
        self._received = memoryview(bytearray(_READ_BYTES))
        self._begin = self._end = 0
        self._prepared = b""
        self._pass_left = 0
        self._discard_left = 0
        self._collected = bytearray()
        self._packets = self._parse_packets()
        self._wanted = next(self._packets)
        self.oversized = 0
        self.disconnect_reason = 0

    # What asyncio calls

    @override
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Send through ``transport`` from now on; receive nothing before paho uses the stream."""
        self._transport = cast("asyncio.Transport", transport)
        self._transport.pause_reading()

    @override
    def get_buffer(self, sizehint: int) -> memoryview:
        """Return the buffer for the next bytes."""
        return self._received

    @override
    def buffer_updated(self, nbytes: int) -> None:
        """Pass on the ``nbytes`` in the buffer. Acknowledge them to the broker's TCP at once."""
        self._begin, self._end = 0, nbytes
        self._on_bytes()
        # asyncio sets TCP_NODELAY, which can be slower alone. Linux resets TCP_QUICKACK after a while.
        if self._transport is not None and not self._transport.is_closing():
            self._transport.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)

    @override
    def connection_lost(self, exc: Exception | None) -> None:
        """Report the end of the connection."""
        self._on_lost()

    # What paho calls

    @property
    def has_bytes(self) -> bool:
        """Whether received bytes are still to be read."""
        return self._begin < self._end

    def recv(self, size: int) -> bytes:
        """Return at most ``size`` received bytes; raise ``BlockingIOError`` without any, or ``TooLargeError``."""
        while True:
            if self._prepared:
                chunk, self._prepared = self._prepared[:size], self._prepared[size:]
                return chunk
            if self._pass_left:
                chunk = self._take(min(size, self._pass_left))
                self._pass_left -= len(chunk)
                return chunk
            if self._discard_left:
                self._discard_left -= len(self._take(self._discard_left))
            else:
                self._collect(self._take(self._wanted - len(self._collected)))

    def send(self, data: bytes) -> int:
        """Send ``data``; return its length. Raise ``OSError`` if the connection has ended."""
        if self._transport is None or self._transport.is_closing():
            raise ConnectionResetError
        self._transport.write(data)
        return len(data)

    def setblocking(self, _: bool) -> None:  # noqa: FBT001 - a socket's own signature
        """Begin to receive: paho calls this when it begins to use the stream, which never blocks."""
        if self._transport is not None:
            self._transport.resume_reading()

    def close(self) -> None:
        """End the connection at once."""
        if self._transport is not None:
            self._transport.abort()

    def pause_reading(self) -> None:
        """Leave further packets unread."""
        if self._transport is not None:
            self._transport.pause_reading()

    def _take(self, size: int) -> bytes:
        if not self.has_bytes:
            raise BlockingIOError
        chunk = bytes(self._received[self._begin : min(self._begin + size, self._end)])
        self._begin += len(chunk)
        return chunk

    def _collect(self, chunk: bytes) -> None:
        self._collected += chunk
        if len(self._collected) == self._wanted:
            collected, self._collected = bytes(self._collected), bytearray()
            self._wanted = self._packets.send(collected)

    def _parse_packets(self) -> Generator[int, bytes]:
        """Decide for each packet what paho reads of it; yield how many bytes are needed next."""
        while True:
            header = yield 1
            self.oversized = 0
            while len(header) == 1 or (header[-1] & 0x80 and len(header) < _MAX_HEADER_BYTES):
                header += yield 1
            if header[-1] & 0x80:
                raise TooLargeError("the packet length has more than four bytes")
            length = sum((byte & 0x7F) << 7 * place for place, byte in enumerate(header[1:]))
            if len(header) + length <= MAX_PACKET:
                # paho itself reads the reason code only if properties follow it.
                reason = (yield 1) if header[0] >> 4 == _DISCONNECT and length else b""
                self.disconnect_reason = reason[0] if reason else 0
                self._prepared, self._pass_left = header + reason, length - len(reason)
                continue
            if header[0] >> 4 != _PUBLISH:
                raise TooLargeError(f"the packet has {length} bytes")
            prefix = yield 2
            if topic_length := int.from_bytes(prefix):
                prefix += yield topic_length
            # A packet id follows the topic only with QoS 1 or 2 (MQTT 5.0, section 3.3.2.2).
            if header[0] & 0x06:
                prefix += yield 2
            self._discard_left, self.oversized = length - len(prefix), length
            # MQTT 5 requires the length of the properties, here 0; the real ones are among the discarded bytes.
            shortened = prefix + (b"\0" if self._has_properties else b"")
            self._prepared = header[:1] + _encode_length(len(shortened)) + shortened


def _encode_length(length: int) -> bytes:
    """Encode a remaining length (MQTT 3.1.1, section 2.2.3)."""
    encoded = bytearray()
    while length > 0x7F:  # noqa: PLR2004 - seven bits a byte
        encoded.append(length & 0x7F | 0x80)
        length >>= 7
    return bytes((*encoded, length))
