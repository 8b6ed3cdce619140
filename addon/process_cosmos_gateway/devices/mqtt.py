"""One MQTT connection on the event loop: the only module that touches paho."""

import asyncio
import logging
import socket
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Any, Self, override

from paho.mqtt.client import Client, ConnectFlags, MQTTMessage, topic_matches_sub
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import MQTTException, Properties
from paho.mqtt.reasoncodes import ReasonCode
from paho.mqtt.subscribeoptions import SubscribeOptions

from .options import BrokerOptions
from .sockets import answer_quickly, open_socket, unread

_LOGGER = logging.getLogger(__name__)

RECEIVE_MAXIMUM = 1000
"""How many unacknowledged messages the broker may send."""

SESSION_SECONDS = 7 * 24 * 3600
"""For how long the broker keeps messages for us while we are away."""

TAKEN_OVER = "session_taken_over"
CLOSED = "closed"
_KEEPALIVE = 15
_HOUSEKEEPING = 5.0
_CONNECT_SECONDS = 10.0
_UNSUPPORTED_VERSION = 132
_SESSION_TAKEN_OVER = 142


class MqttError(Exception):
    """The broker is away or said no; the caller tries again later. The message holds no secret."""


class UnreachableError(MqttError):
    """Nothing was sent to the broker."""


class _UnsupportedVersionError(MqttError):
    """The broker does not speak MQTT 5."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """What the broker sent. ``number``: the message id, 0 with QoS 0. ``topic`` None: it was no UTF-8."""

    topic: str | None
    payload: bytes
    qos: int = 0
    retained: bool = False
    redelivered: bool = False
    number: int = 0

    @property
    def mark(self) -> bytes:
        """Return what tells this message from others of its session: its id, and a hash of topic and payload."""
        digest = sha256((self.topic or "").encode() + b"\0" + self.payload).digest()
        return self.number.to_bytes(2) + digest[:16]


@dataclass(frozen=True, slots=True, kw_only=True)
class Will:
    """What the broker publishes, retained, when the connection is lost."""

    topic: str
    payload: bytes


class _Client(Client):
    """paho on a socket that is already connected: paho's own way to connect would block the event loop."""

    def __init__(self, sock: socket.socket, **settings: Any) -> None:  # noqa: ANN401 - handed on to paho
        self._connected_socket = sock
        self.farewell = 0
        super().__init__(CallbackAPIVersion.VERSION2, manual_ack=True, reconnect_on_failure=False, **settings)

    @override
    def _create_socket(self) -> socket.socket:
        return self._connected_socket

    @override
    def _handle_disconnect(self) -> None:
        # paho reads the reason only when properties follow it.
        self.farewell = int(self._in_packet["packet"][0]) if self._in_packet["packet"] else 0
        super()._handle_disconnect()


class Connection:
    """One connection from its CONNECT to its end; never reused, so an acknowledgement cannot outlive it.

    Every QoS 1 message must be acknowledged by the owner, in the order of receipt. ``on_message`` must not raise.
    """

    session_present: bool
    """Whether the broker had kept the session."""

    def __init__(self, sock: socket.socket, client: _Client, on_message: Callable[[Connection, Message], None]) -> None:
        """Take the parts; ``open`` makes them."""
        self._loop = asyncio.get_running_loop()
        self._socket = sock
        self._client = client
        self._on_message = on_message
        self._accepted: asyncio.Future[bool] = self._loop.create_future()
        self._confirmations: dict[tuple[str, int | None], asyncio.Future[Sequence[ReasonCode]]] = {}
        self._ended: asyncio.Future[str] = self._loop.create_future()
        self._timer: asyncio.TimerHandle | None = None
        self._reason = CLOSED

    @classmethod
    async def open(
        cls,
        broker: BrokerOptions,
        *,
        client_id: str,
        on_message: Callable[[Connection, Message], None],
        keep_session: bool = False,
        will: Will | None = None,
    ) -> Self:
        """Connect with MQTT 5, else 3.1.1; return when the broker has accepted; raise ``MqttError``.

        ``UnreachableError``: the broker cannot have noticed the attempt.

        ``keep_session``: the broker keeps messages for ``SESSION_SECONDS`` and repeats what was not acknowledged.
        """
        for version in (MQTTProtocolVersion.MQTTv5, MQTTProtocolVersion.MQTTv311):
            try:
                async with asyncio.timeout(_CONNECT_SECONDS):
                    sock = await _reach(broker)
                    client = _client(sock, version, client_id, keep_session=keep_session)
                    if broker.username is not None:
                        client.username_pw_set(broker.username, broker.password)
                    if will is not None:
                        client.will_set(will.topic, will.payload, qos=1, retain=True)
                    connection = cls(sock, client, on_message)
                    await connection.begin(broker, keep_session=keep_session)
                    return connection
            except _UnsupportedVersionError:
                _LOGGER.info("The broker does not speak MQTT 5, trying 3.1.1")
            except OSError as error:
                raise MqttError(error.strerror or type(error).__name__) from error
            except (ValueError, OverflowError) as error:
                raise MqttError("The broker's host or port is none") from error
        raise MqttError("The broker speaks neither MQTT 5 nor 3.1.1")

    @property
    def alive(self) -> bool:
        """Whether messages can still be sent."""
        return not self._ended.done()

    async def ended(self) -> str:
        """Wait for the connection's end; return why, as one word."""
        return await asyncio.shield(self._ended)

    def send(self, topic: str, payload: bytes, *, qos: int = 1, retain: bool = False) -> int:
        """Hand a message to the socket; the broker's confirmation is not waited for. Return its message id."""
        return self._client.publish(topic, payload, qos=qos, retain=retain).mid

    async def publish(self, topic: str, payload: bytes, *, retain: bool = False) -> None:
        """Publish with QoS 1; return when the broker has confirmed; raise ``MqttError``."""
        await self._confirmed("publish", self.send(topic, payload, retain=retain))

    async def subscribe(self, filters: Sequence[str], *, retained_again: bool = True, qos: int = 1) -> Sequence[str]:
        """Subscribe with QoS 1, or 0; return the filters the broker refused; raise ``MqttError``.

        ``retained_again``: retained messages come also for filters this session had before (MQTT 5; 3.1.1: always).
        """
        if not filters:
            return ()
        if self._client.protocol == MQTTProtocolVersion.MQTTv5:
            handling = (
                SubscribeOptions.RETAIN_SEND_ON_SUBSCRIBE if retained_again else SubscribeOptions.RETAIN_SEND_IF_NEW_SUB
            )
            options = SubscribeOptions(qos=qos, retainHandling=handling)
            _, number = self._client.subscribe([(topic, options) for topic in filters])
        else:
            _, number = self._client.subscribe([(topic, qos) for topic in filters])
        codes = await self._confirmed("subscribe", number)
        return [topic for topic, code in zip(filters, codes, strict=False) if code.is_failure]

    def unsubscribe(self, filters: Sequence[str]) -> None:
        """Ask the broker to send no more; its confirmation is not waited for."""
        if filters and self.alive:
            self._client.unsubscribe(list(filters))

    def acknowledge(self, message: Message) -> bool:
        """Send the PUBACK of ``message``, which has QoS 1; False, without effect, once the connection has ended."""
        if self.alive:
            self._client.ack(message.number, message.qos)
        return self.alive

    def stop_reading(self) -> None:
        """Leave what the broker sends from now on unread; acknowledgements still go out."""
        if self.alive:
            self._loop.remove_reader(self._socket)

    def close(self, reason: str = CLOSED) -> None:
        """Say goodbye (the will is not published) and end."""
        if self.alive:
            self._reason = reason
            self._client.disconnect()
            self._client.loop_write()
            self._end()

    def drop(self) -> None:
        """End without a goodbye, as a power cut would: the broker publishes the will."""
        self._end()

    async def begin(self, broker: BrokerOptions, *, keep_session: bool) -> None:
        """Send CONNECT on the open socket; return when the broker has accepted; raise ``MqttError``."""
        try:
            client = self._client
            client.on_connect = self._connected
            client.on_message = self._received
            client.on_publish = self._published
            client.on_subscribe = self._subscribed
            client.on_disconnect = self._disconnected
            client.on_socket_register_write = self._want_write
            client.on_socket_unregister_write = self._written
            client.on_socket_close = self._unregister
            if client.protocol == MQTTProtocolVersion.MQTTv5:
                client.connect(
                    broker.host,
                    broker.port,
                    _KEEPALIVE,
                    clean_start=not keep_session,
                    properties=_connect_properties(keep_session=keep_session),
                )
            else:
                client.connect(broker.host, broker.port, _KEEPALIVE)
            self._loop.add_reader(self._socket, self._readable)
            self._timer = self._loop.call_later(_HOUSEKEEPING, self._housekeeping)
            self.session_present = await self._accepted
        except BaseException:
            self._end()
            raise

    async def _confirmed(self, kind: str, number: int | None) -> Sequence[ReasonCode]:
        if not self.alive:
            raise MqttError(self._reason)
        confirmation = self._confirmations[kind, number] = self._loop.create_future()
        try:
            codes: Sequence[ReasonCode] = await confirmation
        finally:
            self._confirmations.pop((kind, number), None)
        return codes

    # What paho calls.

    def _connected(self, _client: Client, _data: object, flags: ConnectFlags, code: ReasonCode, *_: object) -> None:
        if self._accepted.done():
            return
        if not code.is_failure:
            self._accepted.set_result(flags.session_present)
        elif code.value == _UNSUPPORTED_VERSION:
            self._accepted.set_exception(_UnsupportedVersionError(str(code)))
        else:
            self._accepted.set_exception(MqttError(str(code)))

    def _received(self, _client: Client, _data: object, message: MQTTMessage) -> None:
        try:
            topic: str | None = message.topic
        except UnicodeDecodeError:
            topic = None
        received = Message(
            topic=topic,
            payload=bytes(message.payload),
            qos=message.qos,
            retained=message.retain,
            redelivered=message.dup,
            number=message.mid,
        )
        self._on_message(self, received)

    def _published(self, _client: Client, _data: object, number: int, code: ReasonCode, *_: object) -> None:
        confirmation = self._confirmations.get(("publish", number))
        if confirmation is None or confirmation.done():
            return
        if code.is_failure:
            confirmation.set_exception(MqttError(str(code)))
        else:
            confirmation.set_result((code,))

    def _subscribed(self, _client: Client, _data: object, number: int, codes: list[ReasonCode], *_: object) -> None:
        confirmation = self._confirmations.get(("subscribe", number))
        if confirmation is not None and not confirmation.done():
            confirmation.set_result(codes)

    def _disconnected(self, *_: object) -> None:
        if self.alive:
            taken_over = self._client.farewell == _SESSION_TAKEN_OVER
            self._reason = TAKEN_OVER if taken_over else "connection_lost"
        self._end()

    def _want_write(self, *_: object) -> None:
        if self._socket.fileno() >= 0:
            self._loop.add_writer(self._socket, self._writable)

    def _written(self, *_: object) -> None:
        if self._socket.fileno() >= 0:
            self._loop.remove_writer(self._socket)

    def _unregister(self, *_: object) -> None:
        if self._socket.fileno() >= 0:
            self._loop.remove_reader(self._socket)
            self._loop.remove_writer(self._socket)

    # What the event loop calls.

    def _readable(self) -> None:
        try:
            self._client.loop_read()
            while self.alive and unread(self._socket):
                self._client.loop_read()
            if self.alive:
                answer_quickly(self._socket)
        except MQTTException, struct.error, ValueError, OSError:
            _LOGGER.warning("The broker sent what is no MQTT, connecting anew", exc_info=True)
            self._reason = "protocol_error"
            self._end()

    def _writable(self) -> None:
        self._client.loop_write()

    def _housekeeping(self) -> None:
        self._client.loop_misc()
        if self.alive:
            self._timer = self._loop.call_later(_HOUSEKEEPING, self._housekeeping)

    def _end(self) -> None:
        if self._ended.done():
            return
        self._ended.set_result(self._reason)
        if self._timer is not None:
            self._timer.cancel()
        self._unregister()
        self._socket.close()
        waiting: list[asyncio.Future[Any]] = [self._accepted, *self._confirmations.values()]
        for future in waiting:
            if not future.done():
                future.set_exception(MqttError(self._reason))
                future.exception()  # nobody may be waiting, and that is no mistake


async def _reach(broker: BrokerOptions) -> socket.socket:
    try:
        return await open_socket(broker)
    except OSError as error:
        raise UnreachableError(error.strerror or type(error).__name__) from error


def _client(sock: socket.socket, version: MQTTProtocolVersion, client_id: str, *, keep_session: bool) -> _Client:
    settings = {} if version == MQTTProtocolVersion.MQTTv5 else {"clean_session": not keep_session}
    return _Client(sock, client_id=client_id, protocol=version, **settings)


def _connect_properties(*, keep_session: bool) -> Properties:
    properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call] # paho has no types here
    properties.ReceiveMaximum = RECEIVE_MAXIMUM
    properties.SessionExpiryInterval = SESSION_SECONDS if keep_session else 0
    return properties


def matches(topic_filter: str, topic: str) -> bool:
    """Say whether ``topic`` is among those a subscription to ``topic_filter`` gets (MQTT 5.0, section 4.7)."""
    return topic_matches_sub(topic_filter, topic)
