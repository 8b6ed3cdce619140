"""One MQTT connection on the event loop. Only this module and ``paho_client`` use paho."""

import asyncio
import logging
import ssl
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Any, Self

from paho.mqtt.client import Client, ConnectFlags, MQTTMessage, topic_matches_sub
from paho.mqtt.enums import MQTTProtocolVersion
from paho.mqtt.properties import MQTTException, Properties
from paho.mqtt.reasoncodes import ReasonCode
from paho.mqtt.subscribeoptions import SubscribeOptions

from process_cosmos_gateway.options import BrokerOptions

from . import errors as codes
from .errors import DeniedError, MqttError, NoAnswerError, UnreachableError
from .packets import PacketStream, TooLargeError
from .paho_client import PahoClient
from .versions import Version, VersionOrder

_LOGGER = logging.getLogger(__name__)

_CONNECT_SECONDS = 10.0
_ANSWER_SECONDS = 10.0
"""Seconds to wait for the answer to CONNECT and to SUBSCRIBE."""
_UNSUPPORTED_VERSION = 132
_SESSION_TAKEN_OVER = 142
_PROTOCOLS = {Version.V5: MQTTProtocolVersion.MQTTv5, Version.V311: MQTTProtocolVersion.MQTTv311}
_PAHO_ERRORS = (MQTTException, TooLargeError, struct.error, ValueError, LookupError, TypeError, OSError, MemoryError)
"""What paho raises for packets that are not MQTT, and ``PacketStream`` for packets that are too large."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """A received message. ``number``: the packet id, 0 with QoS 0. ``topic`` None: it was not valid UTF-8.

    ``oversized``: the size in bytes of a message too large to be read, whose payload is left out; otherwise 0.
    """

    topic: str | None
    payload: bytes
    qos: int = 0
    retained: bool = False
    redelivered: bool = False
    number: int = 0
    oversized: int = 0

    @property
    def mark(self) -> bytes:
        """Return what identifies the message within its session: packet id, and a hash of topic and payload."""
        digest = sha256((self.topic or "").encode() + b"\0" + self.payload).digest()
        return self.number.to_bytes(2) + digest[:16]


@dataclass(frozen=True, slots=True, kw_only=True)
class Will:
    """The message that the broker publishes, retained, when the connection is lost."""

    topic: str
    payload: bytes


class Connection:
    """One connection from CONNECT to its end; never reused, so an acknowledgement cannot reach a later one.

    The owner must acknowledge every QoS 1 message, in the order of receipt. ``on_message`` must not raise.
    """

    session_present: bool
    """Whether the broker had kept the session."""

    max_qos: int = 1
    """The highest QoS the broker supports, in both directions."""

    def __init__(
        self,
        version: Version,
        client_id: str,
        on_message: Callable[[Connection, Message], None],
        *,
        keep_session: bool = False,
    ) -> None:
        """Prepare a connection; use ``open`` instead."""
        self.version = version
        self._loop = asyncio.get_running_loop()
        self._on_message = on_message
        self._accepted: asyncio.Future[bool] = self._loop.create_future()
        self._confirmations: dict[tuple[str, int | None], asyncio.Future[Sequence[ReasonCode]]] = {}
        self._ended: asyncio.Future[str] = self._loop.create_future()
        self._timer: asyncio.TimerHandle | None = None
        self._reason = codes.CLOSED
        self._stream = PacketStream(
            has_properties=version is Version.V5, on_bytes=self._readable, on_lost=self._disconnected
        )
        client = self._client = PahoClient(self._stream, _PROTOCOLS[version], client_id, keep=keep_session)
        client.on_connect = self._connected
        client.on_message = self._received
        client.on_publish = self._published
        client.on_subscribe = self._subscribed
        client.on_disconnect = self._disconnected
        client.on_socket_register_write = self._want_write

    @classmethod
    async def open(
        cls,
        broker: BrokerOptions,
        *,
        client_id: str,
        on_message: Callable[[Connection, Message], None],
        keep_session: bool = False,
        will: Will | None = None,
        version_order: VersionOrder | None = None,
        on_no_answer: Callable[[], None] = lambda: None,
    ) -> Self:
        """Connect with MQTT 5, else 3.1.1; return once the broker has accepted; raise ``MqttError``.

        ``UnreachableError``: the attempt cannot have reached the broker. ``version_order``: remembers which version the
        broker answered. ``on_no_answer``: called after an attempt that may have reached the broker, before the other
        version is tried.

        ``keep_session``: the broker keeps messages for ``SESSION_SECONDS`` and sends those not acknowledged again.
        """
        version_order = version_order or VersionOrder()
        clock = asyncio.get_running_loop()
        first, second = version_order.in_order(clock.time())
        for version in (first, second):
            connection = cls(version, client_id, on_message, keep_session=keep_session)
            if will is not None:
                connection._client.will_set(will.topic, will.payload, qos=1, retain=True)
            try:
                await connection._begin(broker)
            except NoAnswerError as error:
                if version is second:
                    raise
                on_no_answer()
                _LOGGER.info("The MQTT broker does not answer version %s (%s); trying version %s", first, error, second)
            except UnreachableError:
                raise
            except MqttError:
                version_order.note_answer(version, clock.time())
                raise
            else:
                version_order.note_answer(version, clock.time())
                return connection
        raise AssertionError  # the second attempt returns or raises

    @property
    def alive(self) -> bool:
        """Whether messages can still be sent."""
        return not self._ended.done()

    async def ended(self) -> str:
        """Wait for the end of the connection; return its reason code, optionally followed by ``:`` and details."""
        return await asyncio.shield(self._ended)

    def send(self, topic: str, payload: bytes, *, qos: int = 1, retain: bool = False) -> asyncio.Future[Any]:
        """Send a message; return a future that ends with the broker's confirmation, or with ``MqttError``."""
        # MQTT 5 forbids a QoS above that of the CONNACK (section 3.2.2.3.4); the broker would end the connection.
        number = self._client.publish(topic, payload, qos=min(qos, self.max_qos), retain=retain).mid
        return self._confirmation("publish", number)

    async def publish(self, topic: str, payload: bytes, *, retain: bool = False) -> None:
        """Publish with QoS 1; return once the broker has confirmed it; raise ``MqttError``."""
        await self.send(topic, payload, retain=retain)

    async def subscribe(self, filters: Sequence[str], *, retained_again: bool = True, qos: int = 1) -> Sequence[str]:
        """Subscribe with QoS 1 or 0; return the filters that the broker refused; raise ``MqttError``.

        ``retained_again``: request retained messages also for filters that the session had before (MQTT 5; a broker
        with 3.1.1 always sends them).
        """
        if not filters:
            return ()
        if self._client.speaks_mqtt_5:
            handling = (
                SubscribeOptions.RETAIN_SEND_ON_SUBSCRIBE if retained_again else SubscribeOptions.RETAIN_SEND_IF_NEW_SUB
            )
            options = SubscribeOptions(qos=qos, retainHandling=handling)
            _, number = self._client.subscribe([(topic, options) for topic in filters])
        else:
            _, number = self._client.subscribe([(topic, qos) for topic in filters])
        try:
            async with asyncio.timeout(_ANSWER_SECONDS):
                reason_codes: Sequence[ReasonCode] = await self._confirmation("subscribe", number)
        except TimeoutError as error:
            raise MqttError(codes.UNANSWERED, "no answer to a subscription") from error
        if qos and reason_codes and not any(code.value for code in reason_codes):
            self.max_qos = 0  # MQTT 3.1.1 has no other way to announce it
        return [topic for topic, code in zip(filters, reason_codes, strict=False) if code.is_failure]

    def unsubscribe(self, filters: Sequence[str]) -> None:
        """Remove subscriptions, without waiting for the confirmation."""
        if filters and self.alive:
            self._client.unsubscribe(list(filters))

    def acknowledge(self, message: Message) -> bool:
        """Send the PUBACK of a QoS 1 message; return False, without effect, if the connection has ended."""
        if self.alive:
            self._client.ack(message.number, message.qos)
        return self.alive

    def stop_reading(self) -> None:
        """Leave further messages unread; acknowledgements can still be sent."""
        if self.alive:
            self._stream.pause_reading()

    def close(self, reason: str = codes.CLOSED) -> None:
        """Send DISCONNECT, so that the will is not published, and end the connection."""
        if self.alive:
            self._reason = reason
            self._client.on_disconnect = None  # it would set another reason
            self._client.disconnect()
            self._client.loop_write()
            self._end()

    def drop(self) -> None:
        """End the connection without DISCONNECT, as a power failure would: the broker publishes the will."""
        self._end()

    async def _begin(self, broker: BrokerOptions) -> None:
        """Connect and send CONNECT; return once the broker has accepted; raise ``MqttError``."""
        try:
            async with asyncio.timeout(_CONNECT_SECONDS):
                context = await asyncio.to_thread(_tls_context, broker) if broker.tls else None
                await self._loop.create_connection(lambda: self._stream, broker.host, broker.port, ssl=context)
        except OSError as error:
            raise codes.unreachable(error) from error
        except (ValueError, OverflowError) as error:
            raise UnreachableError(codes.UNREACHABLE, "the broker's host or port is invalid") from error
        try:
            if broker.username is not None:
                self._client.username_pw_set(broker.username, broker.password)
            self._client.begin(broker.host, broker.port)
            self._schedule_housekeeping()
            async with asyncio.timeout(_ANSWER_SECONDS):
                self.session_present = await self._accepted
        except TimeoutError as error:
            self._end()
            raise NoAnswerError(codes.SILENT) from error
        except BaseException:
            self._end()
            raise

    def _confirmation(self, kind: str, number: int | None) -> asyncio.Future[Sequence[ReasonCode]]:
        confirmation: asyncio.Future[Sequence[ReasonCode]] = self._loop.create_future()
        if self.alive:
            self._confirmations[kind, number] = confirmation
            confirmation.add_done_callback(lambda _: self._confirmations.pop((kind, number), None))
        else:
            _fail(confirmation, MqttError(self._reason))
        return confirmation

    # Callbacks of paho

    def _connected(
        self, _client: Client, _data: object, flags: ConnectFlags, code: ReasonCode, properties: Properties | None
    ) -> None:
        if self._accepted.done():
            return
        if not code.is_failure:
            self.max_qos = 1 if properties is None else self._client.apply_connack_limits(properties)
            self._schedule_housekeeping()
            self._accepted.set_result(flags.session_present)
        elif code.value == _UNSUPPORTED_VERSION:
            # `open` tries the other version after a NoAnswerError only.
            self._accepted.set_exception(NoAnswerError(codes.REFUSED, str(code)))
        else:
            self._accepted.set_exception(codes.refused(code.value, str(code)))

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
            oversized=self._stream.oversized,
        )
        self._on_message(self, received)

    def _published(self, _client: Client, _data: object, number: int, code: ReasonCode, *_: object) -> None:
        confirmation = self._confirmations.get(("publish", number))
        if confirmation is None or confirmation.done():
            return
        if code.is_failure:
            _fail(confirmation, DeniedError(codes.DENIED, str(code)))
        else:
            confirmation.set_result((code,))

    def _subscribed(
        self, _client: Client, _data: object, number: int, reason_codes: list[ReasonCode], *_: object
    ) -> None:
        confirmation = self._confirmations.get(("subscribe", number))
        if confirmation is not None and not confirmation.done():
            confirmation.set_result(reason_codes)

    def _disconnected(self, *_: object) -> None:
        if self.alive:
            taken_over = self._stream.disconnect_reason == _SESSION_TAKEN_OVER
            self._reason = codes.TAKEN_OVER if taken_over else codes.CONNECTION_LOST
        self._end()

    def _want_write(self, *_: object) -> None:
        self._loop.call_soon(self._writable)

    # Callbacks of the event loop

    def _readable(self) -> None:
        self._run_paho(self._read)

    def _writable(self) -> None:
        if self.alive:
            self._run_paho(self._client.loop_write)

    def _housekeeping(self) -> None:
        self._run_paho(self._client.loop_misc)
        if self.alive:
            self._schedule_housekeeping()

    def _read(self) -> None:
        while self.alive and self._stream.has_bytes:
            self._client.loop_read()

    def _run_paho(self, step_fn: Callable[[], object]) -> None:
        """Run a step of paho. If it raises, end the connection, which would otherwise stay open and unread."""
        try:
            step_fn()
        except _PAHO_ERRORS as error:
            _LOGGER.debug("Invalid MQTT data from the broker", exc_info=True)
            self._fail(f"{codes.PROTOCOL_ERROR}: {type(error).__name__}")
        except BaseException:
            self._fail(codes.PROTOCOL_ERROR)
            raise

    def _schedule_housekeeping(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._loop.call_later(self._client.seconds_until_ping(), self._housekeeping)

    def _fail(self, reason: str) -> None:
        if self.alive:
            self._reason = reason
        self._end()

    def _end(self) -> None:
        if self._ended.done():
            return
        self._ended.set_result(self._reason)
        if self._timer is not None:
            self._timer.cancel()
        self._stream.close()
        _fail(self._accepted, NoAnswerError(codes.HUNG_UP, self._reason))
        for future in tuple(self._confirmations.values()):
            _fail(future, MqttError(self._reason))


def _fail(future: asyncio.Future[Any], error: MqttError) -> None:
    """Set ``error`` on ``future``, without a warning by asyncio if the future is never awaited."""
    if not future.done():
        future.set_exception(error)
        future.exception()


def _tls_context(broker: BrokerOptions) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=broker.ca)
    if broker.certificate is not None:
        context.load_cert_chain(broker.certificate, broker.key)
    return context


def matches(topic_filter: str, topic: str) -> bool:
    """Return whether ``topic`` matches ``topic_filter`` (MQTT 5.0, section 4.7)."""
    return topic_matches_sub(topic_filter, topic)
