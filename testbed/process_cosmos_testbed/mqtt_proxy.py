"""Simulates other brokers: forwards MQTT packets to a real broker, and changes what such a broker does differently.

``manners`` apply to new connections; ``counts`` proves what took effect. All methods are called from the event loop of
the proxy.
"""

import asyncio
import struct
from collections import Counter
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Self

CONNECT, CONNACK, PUBLISH, PUBACK, SUBSCRIBE, SUBACK, PINGREQ, DISCONNECT = 1, 2, 3, 4, 8, 9, 12, 14
_DUP, _QOS = 8, 6
_V5 = 5
_NOT_AUTHORIZED = 0x87
_QOS_NOT_SUPPORTED = 0x9B
_SERVER_KEEP_ALIVE = 0x13
_MAXIMUM_QOS = 0x24
_PATIENCE = 1.5
"""The multiple of the keep-alive after which a broker closes a connection (MQTT 5.0, section 3.1.2.10)."""


class Reaction(StrEnum):
    """The reaction to an unsupported packet."""

    NONE = "none"
    HANG_UP = "hang_up"
    SILENCE = "silence"


@dataclass(frozen=True, slots=True, kw_only=True)
class Manners:
    """The behaviour of a broker.

    ``to_5``: to a CONNECT of MQTT 5. ``to_sys``: to subscriptions below ``$SYS``. ``denied``: the beginning of topics
    that may be neither published nor subscribed to. ``lost``: the beginning of topics whose SUBSCRIBE gets no reply.
    ``keep_alive``: seconds that it announces and enforces (MQTT 5). ``max_qos``: announced with MQTT 5, and enforced.
    ``garbage``: bytes that it sends after each CONNACK.
    """

    to_5: Reaction = Reaction.NONE
    to_sys: Reaction = Reaction.NONE
    denied: str | None = None
    lost: str | None = None
    keep_alive: int | None = None
    max_qos: int = 1
    garbage: bytes = b""


@dataclass(slots=True)
class Packet:
    """One MQTT packet: its first byte, and everything after the remaining length."""

    first: int
    body: bytes

    @property
    def kind(self) -> int:
        """The control packet type."""
        return self.first >> 4

    def encoded(self) -> bytes:
        """Return the packet as sent: first byte, remaining length (variable byte integer), body."""
        return bytes((self.first,)) + _varint(len(self.body)) + self.body


class _HangUpError(Exception):
    """The connection is closed."""


@dataclass(eq=False)
class MqttProxy:
    """Listens on a free port of 127.0.0.1 and forwards packets to the broker at ``far_port``."""

    far_port: int
    manners: Manners = field(default_factory=Manners)
    counts: Counter[str] = field(default_factory=Counter)
    port: int = 0
    given: set[int] = field(default_factory=set)
    """Hashes of id, topic and payload of the messages that the broker sent with an id."""

    async def __aenter__(self) -> Self:
        """Start to listen; ``port`` is known afterwards."""
        self._tasks: set[asyncio.Task[object]] = set()
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        """Stop listening, and reset every connection."""
        self._server.close()
        await self.reset()

    async def reset(self) -> None:
        """End all connections; new ones get the present manners."""
        tasks = tuple(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None  # noqa: S101 - start_server runs this as a task
        self._tasks.add(task)
        far_writer: asyncio.StreamWriter | None = None
        try:
            far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self.far_port)
            client = _Client(self.manners, self.counts, self.given, reader, writer, far_reader, far_writer)
            async with asyncio.TaskGroup() as group:
                group.create_task(client.pass_up())
                group.create_task(client.pass_down())
                group.create_task(client.watch())
        except* OSError, EOFError, _HangUpError, asyncio.CancelledError:
            pass  # a side has ended the connection, or the proxy stops
        finally:
            self._tasks.discard(task)
            for side in (writer, far_writer):
                if side is not None:
                    side.close()


@dataclass(eq=False)
class _Client:
    """One client's connection, and its connection to the broker."""

    manners: Manners
    counts: Counter[str]
    given: set[int]
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    far_reader: asyncio.StreamReader
    far_writer: asyncio.StreamWriter
    is_5: bool = True
    heard_at: float = 0.0
    refused: dict[bytes, list[int]] = field(default_factory=dict)

    async def pass_up(self) -> None:
        """Forward the client's packets."""
        while True:
            packet = await read_packet(self.reader)
            self.heard_at = asyncio.get_running_loop().time()
            if (passed := self._changed_up(packet)) is not None:
                self.far_writer.write(passed.encoded())
                await self.far_writer.drain()

    async def pass_down(self) -> None:
        """Forward the broker's packets."""
        while True:
            packet = await read_packet(self.far_reader)
            self.writer.write(self._changed_down(packet).encoded())
            if packet.kind == CONNACK and self.manners.garbage:
                self.counts["garbage"] += 1
                self.writer.write(self.manners.garbage)
            await self.writer.drain()

    async def watch(self) -> None:
        """End the connection of a client that violates the keep-alive."""
        seconds = self.manners.keep_alive
        loop = asyncio.get_running_loop()
        self.heard_at = loop.time()
        while seconds is not None:
            await asyncio.sleep(max(0.01, self.heard_at + seconds * _PATIENCE - loop.time()))
            if loop.time() - self.heard_at >= seconds * _PATIENCE:
                self.counts["keep_alive_missed"] += 1
                raise _HangUpError
        await loop.create_future()

    def _changed_up(self, packet: Packet) -> Packet | None:
        """Return the packet to forward, or None."""
        if packet.kind == CONNECT:
            self.is_5 = packet.body[2 + int.from_bytes(packet.body[:2])] == _V5
            self.counts["connects_5" if self.is_5 else "connects_311"] += 1
            return self._react(packet, self.manners.to_5 if self.is_5 else Reaction.NONE, "at_5")
        self.counts["pings"] += packet.kind == PINGREQ
        if packet.kind == PUBLISH and (qos := packet.first >> 1 & 3):
            return self._published(packet, qos)
        if packet.kind == SUBSCRIBE:
            return self._subscribed(packet)
        return packet

    def _react(self, packet: Packet, reaction: Reaction, what: str) -> Packet | None:
        if reaction is Reaction.NONE:
            return packet
        self.counts[f"{reaction}_{what}"] += 1
        if reaction is Reaction.HANG_UP:
            raise _HangUpError
        return None

    def _published(self, packet: Packet, qos: int) -> Packet | None:
        length = int.from_bytes(packet.body[:2])
        topic, number = packet.body[2 : 2 + length].decode(), packet.body[2 + length : 4 + length]
        if qos > self.manners.max_qos:
            self.counts["qos_not_supported"] += 1
            # A broker of 3.1.1 has no DISCONNECT to send: it only closes the connection.
            if self.is_5:
                self.writer.write(Packet(DISCONNECT << 4, bytes((_QOS_NOT_SUPPORTED,))).encoded())
            raise _HangUpError
        # A PUBACK of 3.1.1 has no reason code, so that a broker cannot report the refusal.
        if self.is_5 and self._is_denied(topic):
            self.counts["publish_denied"] += 1
            self.writer.write(Packet(PUBACK << 4, number + bytes((_NOT_AUTHORIZED,))).encoded())
            return None
        return packet

    def _subscribed(self, packet: Packet) -> Packet | None:
        """Replace denied filters by ones that match nothing, and remember to refuse them in the SUBACK."""
        body, at = bytearray(packet.body), 2
        if self.is_5:
            length, size = _read_varint(packet.body, at)
            at += size + length
        place, refused = 0, []
        while at < len(body):
            length = int.from_bytes(body[at : at + 2])
            topic = bytes(body[at + 2 : at + 2 + length]).decode()
            if topic.startswith("$SYS") and self.manners.to_sys is not Reaction.NONE:
                return self._react(packet, self.manners.to_sys, "at_sys")
            if self.manners.lost is not None and topic.startswith(self.manners.lost):
                return self._react(packet, Reaction.SILENCE, "at_topic")
            if self._is_denied(topic):
                self.counts["subscription_denied"] += 1
                refused.append(place)
                body[at + 2 : at + 2 + length] = b"~" * length
            options = at + 2 + length
            if body[options] & 3 > self.manners.max_qos:
                body[options] = body[options] & ~3 | self.manners.max_qos
            at, place = options + 1, place + 1
        self.refused[bytes(body[:2])] = refused
        return Packet(packet.first, bytes(body))

    def _is_denied(self, topic: str) -> bool:
        return self.manners.denied is not None and topic.startswith(self.manners.denied)

    def _changed_down(self, packet: Packet) -> Packet:
        if packet.kind == CONNACK and self.is_5:
            return Packet(packet.first, self._connack(packet.body))
        if packet.kind == PUBLISH and packet.first & _QOS and not packet.first & _DUP:
            message = hash(packet.body)
            self.counts["ids_given_out_again"] += message in self.given
            self.given.add(message)
        if packet.kind == SUBACK:
            codes = self.refused.pop(packet.body[:2], [])
            body, begin = bytearray(packet.body), 3 if self.is_5 else 2
            for place in codes:
                body[begin + place] = _NOT_AUTHORIZED if self.is_5 else 0x80
            return Packet(packet.first, bytes(body))
        return packet

    def _connack(self, body: bytes) -> bytes:
        length, size = _read_varint(body, 2)
        properties = body[2 + size : 2 + size + length]
        if self.manners.keep_alive is not None:
            self.counts["keep_alive_told"] += 1
            properties += struct.pack("!BH", _SERVER_KEEP_ALIVE, self.manners.keep_alive)
        if self.manners.max_qos < 1:
            properties += bytes((_MAXIMUM_QOS, self.manners.max_qos))
        return body[:2] + _varint(len(properties)) + properties


async def read_packet(reader: asyncio.StreamReader) -> Packet:
    """Return the next packet; raise ``EOFError`` at the end."""
    [first] = await reader.readexactly(1)
    length = shift = 0
    more = True
    while more:
        [byte] = await reader.readexactly(1)
        length |= (byte & 0x7F) << shift
        more, shift = bool(byte & 0x80), shift + 7
    return Packet(first, await reader.readexactly(length))


def _varint(number: int) -> bytes:
    written = bytearray()
    while number > 0x7F:  # noqa: PLR2004 - seven bits a byte
        written.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes((*written, number))


def _read_varint(data: bytes, at: int) -> tuple[int, int]:
    """Return the number that begins at ``at``, and its length in bytes."""
    number = size = 0
    while True:
        byte = data[at + size]
        number |= (byte & 0x7F) << 7 * size
        size += 1
        if not byte & 0x80:
            return number, size
