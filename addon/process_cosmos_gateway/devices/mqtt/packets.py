"""A packet filter between the broker and paho that never holds a packet above the size limit in memory.

paho collects a packet of up to 256 MB before it looks at it, and MQTT 3.1.1 has no way to tell the broker a limit.
"""

import socket
from collections.abc import Generator

from process_cosmos_gateway.errors import GatewayError

MAX_PACKET = 512 * 1024
"""Bytes of the largest packet read, announced to the broker with MQTT 5: twice the longest Thing Description."""

_PUBLISH = 3
_MAX_HEADER_BYTES = 5
_READ_BYTES = 65_536
_MAX_READS = 32


class TooLargeError(GatewayError):
    """The broker sent a packet over the limit that is not a PUBLISH; the stream cannot be read any further."""


class PacketSocket:
    """A connected socket for paho that leaves out the payload of messages larger than ``MAX_PACKET``.

    Such a message keeps its topic and packet id, so that it can be acknowledged. ``oversized`` is its size in bytes
    until the next packet begins, otherwise 0.
    """

    def __init__(self, sock: socket.socket, *, has_properties: bool) -> None:
        """Wrap ``sock``; ``has_properties``: its packets are MQTT 5."""
        self._socket = sock
        self._has_properties = has_properties
        self._prepared = b""
        self._pass_left = 0
        self._discard_left = 0
        self._collected = bytearray()
        self._packets = self._parse_packets()
        self._wanted = next(self._packets)
        self.oversized = 0

    def recv(self, size: int) -> bytes:
        """Return at most ``size`` bytes, ``b""`` at the end; raise ``OSError`` like a socket, or ``TooLargeError``."""
        for _ in range(_MAX_READS):
            if self._prepared:
                chunk, self._prepared = self._prepared[:size], self._prepared[size:]
                return chunk
            if self._pass_left:
                chunk = self._socket.recv(min(size, self._pass_left))
                self._pass_left -= len(chunk)
                return chunk
            if self._discard_left:
                chunk = self._socket.recv(min(self._discard_left, _READ_BYTES))
                self._discard_left -= len(chunk)
            else:
                # Read no byte beyond what decides about the packet, so its body is passed on uncollected.
                chunk = self._socket.recv(self._wanted - len(self._collected))
                self._collect(chunk)
            if not chunk:
                return b""
        raise BlockingIOError  # let the event loop run other tasks

    def send(self, data: bytes) -> int:
        """Send ``data`` unchanged; return how many bytes the socket accepted."""
        return self._socket.send(data)

    def setblocking(self, flag: bool) -> None:  # noqa: FBT001 - the socket's own signature
        """Pass ``flag`` on to the socket."""
        self._socket.setblocking(flag)

    def fileno(self) -> int:
        """Return the file descriptor of the socket."""
        return self._socket.fileno()

    def close(self) -> None:
        """Close the socket and discard a packet that was read in part."""
        self._socket.close()

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
                self._prepared, self._pass_left = header, length
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
