"""The service for devices: the rest of the gateway reads, watches and writes them through it."""

import asyncio
import logging
from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from itertools import batched

import orjson

from process_cosmos_gateway.clock import Clock
from process_cosmos_gateway.contract.destinations import BrokerLink
from process_cosmos_gateway.contract.devices import AvailabilityChanged, Device, Value, WriteProperty
from process_cosmos_gateway.contract.errors import Code
from process_cosmos_gateway.contract.identifiers import Ulid
from process_cosmos_gateway.contract.messages import DeviceChange
from process_cosmos_gateway.errors import RequestRefusedError
from process_cosmos_gateway.options import MEGABYTE, BrokerOptions, ReadingOptions
from process_cosmos_gateway.outbox import Outbox
from process_cosmos_gateway.store import Store

from . import repository
from .message_handler import MessageHandler
from .message_writer import Change, MessageChanges, MessageWriter, PendingWrite
from .mqtt.broker_reconnect import BrokerConnector
from .mqtt.broker_state import BrokerState
from .mqtt.connection import Connection, Message
from .mqtt.errors import DeniedError, MqttError
from .mqtt.mqtt_session import DROPPED_TOPIC, MqttSession
from .mqtt.redelivery import ReceivedMessages, RedeliveryStatus
from .readings.forwarding import Forwarding
from .readings.retention import Retention
from .things.description import DescriptionError, parse_description
from .things.description_intake import NEW_A_MINUTE, DescriptionIntake, SubscriptionChange
from .things.device_table import DeviceTable
from .things.property_writes import Confirmation, PropertyWrites
from .things.rate_limiter import InboundMessage, RateLimiter
from .things.twin import Twin, as_device, write_problem

_LOGGER = logging.getLogger(__name__)

AWAY_SECONDS = 10.0
"""Seconds without a broker after which all devices are reported offline."""

_MAX_TOPICS_A_PACKET = 200
_DROPPED_TOPIC_RETRY_SECONDS = 24 * 3600.0


class Devices:
    """Service for the devices on the MQTT broker, active while ``run`` runs.

    ``counts``: ignored, repeated and dropped messages, by reason.
    """

    def __init__(
        self,
        store: Store,
        outbox: Outbox,
        clock: Clock,
        ulid_fn: Callable[[], Ulid],
        broker: BrokerOptions | None,
        *,
        readings: ReadingOptions | None = None,
        new_a_minute: int = NEW_A_MINUTE,
        on_broker_change: Callable[[], None] = lambda: None,
    ) -> None:
        """Create the components. ``broker`` None: no devices; ``new_a_minute``: new devices accepted a minute.

        ``on_broker_change``: called when ``broker_link`` may have changed.
        """
        self.counts: Counter[str] = Counter()
        self._store = store
        self._clock = clock
        options = readings or ReadingOptions()
        self._retention = Retention(store, outbox, clock, self.counts, options.readings_mb * MEGABYTE)
        self._forwarding = Forwarding(outbox, clock, options, self.counts)
        self._received = ReceivedMessages()
        self._session = MqttSession(store, outbox, clock, ulid_fn, self._received)
        self._broker = broker
        self._filters = broker.topics if broker else ()
        self._watchers: list[Callable[[DeviceChange], None]] = []
        self._device_table = DeviceTable()
        self._writer = MessageWriter(store, outbox, self.counts, options.reading_linger, self._received)
        self._writes = PropertyWrites(store, clock, self.counts, self._send)
        self._rate_limiter = RateLimiter(self.counts, clock.monotonic)
        self._broker_state = BrokerState(clock.monotonic, on_broker_change)
        self._descriptions = DescriptionIntake(
            device_table=self._device_table,
            filters=self._filters,
            counts=self.counts,
            new_a_minute=new_a_minute,
            notify=self._notify,
            update_subscriptions=self._update_subscriptions,
            on_removed=self._forget_device,
        )
        self._message_handler = MessageHandler(
            device_table=self._device_table,
            descriptions=self._descriptions,
            rate_limiter=self._rate_limiter,
            outbox=outbox,
            writes=self._writes,
            clock=clock,
            ulid_fn=ulid_fn,
            forwarding=self._forwarding,
            counts=self.counts,
            notify=self._notify,
        )
        self._connector: BrokerConnector | None = None
        self._is_away = False
        self._away_timer: asyncio.TimerHandle | None = None
        self._open_connection: Connection | None = None
        self._dropped_topic_from = 0.0
        self._new_topics: asyncio.Queue[tuple[Connection, list[str]]] = asyncio.Queue()

    @property
    def broker_connected(self) -> bool:
        """Whether the broker is connected and its subscriptions are made."""
        return self._connection is not None

    @property
    def broker_link(self) -> BrokerLink | None:
        """The state of the connection to the broker; None: no broker is configured."""
        if self._broker is None:
            return None
        has_refused_devices = self.counts[Code.TOO_MANY_DEVICES] > 0
        return self._broker_state.to_broker_link(self._rate_limiter.limited, turned_away=has_refused_devices)

    @property
    def broker_dropped(self) -> int:
        """Messages, for any client, that the broker has dropped since this gateway first read its counter."""
        return self._session.broker_dropped

    @property
    def gaps(self) -> int:
        """How often in the gateway's lifetime the broker had lost the session, and with it messages of devices."""
        return self._session.gaps

    @property
    def identity_conflict(self) -> bool:
        """Whether another client has taken over the client id, at least twice within a minute."""
        return self._connector is not None and self._connector.identity_conflict

    @property
    def _connection(self) -> Connection | None:
        connection = self._connector.connection if self._connector else None
        return connection if connection is not None and connection.alive else None

    def devices(self) -> tuple[Device, ...]:
        """Return all devices with their current values."""
        return tuple(as_device(twin, reachable=not self._is_away) for twin in self._device_table.twins.values())

    def watch(self, on_change: Callable[[DeviceChange], None]) -> None:
        """Call ``on_change`` with every change, before it is stored; the feed sets its ``sequence``."""
        self._watchers.append(on_change)

    async def write(self, request: WriteProperty) -> None:
        """Write a property: return once it is published and stored; it is repeated until the device reports it.

        Raises ``RequestRefusedError`` and ``StoreError``.
        """
        twin = self._device_table.twins.get(request.device)
        if twin is None:
            raise RequestRefusedError(Code.UNKNOWN_DEVICE, "There is no device with this id")
        target = next((each for each in twin.thing.device.properties if each.name == request.property), None)
        if target is None:
            raise RequestRefusedError(Code.UNKNOWN_PROPERTY, f"{twin.thing.device.title} has no such property")
        if not target.writable:
            raise RequestRefusedError(Code.READ_ONLY, f"{target.title} cannot be written")
        if problem := write_problem(twin.thing.device, request.property, request.value):
            raise RequestRefusedError(Code.INVALID_VALUE, problem)
        held = twin.latest.get(request.property)
        reported = None if held is None else held.value
        value = request.value
        if target.integer and isinstance(value, float):
            value = int(value)
        if not await self._writes.submit(request.device, request.property, value, request.expires_in, reported):
            raise RequestRefusedError(Code.BROKER_AWAY, "The MQTT broker is not connected; devices cannot be reached")

    async def run(self) -> None:
        """Receive messages and send writes until cancelled; call ``load``, if needed, and raise its ``StoreError``."""
        if self._broker is None:
            await asyncio.get_running_loop().create_future()
            return
        if not self._session.name:
            await self.load()
        connector = self._connector = BrokerConnector(
            broker=self._broker,
            client_id=f"process-cosmos-{self._store.site}",
            on_message=self._on_message,
            on_open=self._on_open,
            on_ended=self._received.end_connection,
            on_lost=self._on_lost,
            on_stop=self._writer.finish,
        )
        self._on_lost("starting")
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._writer.run(), name="devices: message writer")
                group.create_task(self._writes.run(), name="devices: writes")
                group.create_task(self._forwarding.run(self._store), name="devices: forwarding")
                group.create_task(self._retention.run(), name="devices: retention")
                group.create_task(self._subscribe_new(), name="devices: subscriptions")
                group.create_task(self._rate_limiter.run(self._handle_deferred), name="devices: deferred states")
                group.create_task(
                    self._descriptions.run(self._write_description, self._message_handler.log_ignored),
                    name="devices: descriptions",
                )
                group.create_task(connector.run(), name="devices: connector")
        finally:
            self._connector = None
            self._mark_back()
            await self._writer.finish()

    async def load(self) -> None:
        """Load devices, writes and session from the store. Must come before ``devices``. Raises ``StoreError``."""
        if self._broker is None:
            return
        for each in await self._store.read(repository.load_devices):
            try:
                thing = parse_description(each.topic, each.description, self._filters)
                twin = self._device_table.add(thing, each.description)
            except DescriptionError as error:
                _LOGGER.warning("Ignored the stored description at %s, now invalid: %s", each.topic, error)
            else:
                names = {described.name for described in thing.device.properties}
                latest = {name: reading for name, reading in each.values.items() if name in names}
                self._device_table.twins[twin.id] = Twin(thing=thing, online=each.online, latest=latest)
        await self._writes.load()
        await self._session.load()

    # Callbacks of the connector

    async def _on_open(self, connection: Connection) -> None:
        self._open_connection = connection
        times = (reading.time for twin in self._device_table.twins.values() for reading in twin.latest.values())
        last_reading_at = max(times, default=None)
        await self._session.begin_connection(present=connection.session_present, last_reading_at=last_reading_at)
        with_retained = list(self._filters)
        without_retained: list[str] = []
        for twin in self._device_table.twins.values():
            topics, availability = twin.subscribed_topics()
            # A property may have no value here, because it is new or a backup was restored: request its retained one.
            unknown = [topic for topic, name in twin.thing.reads.items() if name not in twin.latest]
            without_retained += [topic for topic in topics if topic not in unknown]
            with_retained += [*unknown, *availability]
        await self._subscribe(connection, with_retained, again=True)
        await self._subscribe(connection, without_retained, again=False)
        self._broker_state.note_connected(connection)
        self._mark_back()
        # Last and without waiting: some brokers close the connection at a `$SYS` topic, or do not answer.
        self._new_topics.put_nowait((connection, [DROPPED_TOPIC]))

    def _on_lost(self, reason: str) -> None:
        self._broker_state.note_lost(reason)
        if self._away_timer is None and not self._is_away:
            self._away_timer = asyncio.get_running_loop().call_later(AWAY_SECONDS, self._mark_away)

    def _on_message(self, connection: Connection, message: Message) -> None:
        mark = message.mark if message.qos else None
        status = RedeliveryStatus.NEW if mark is None else self._received.receive(mark, redelivered=message.redelivered)
        self.counts["repeats"] += status is RedeliveryStatus.REPEAT
        self.counts["possible_repeats"] += status is RedeliveryStatus.POSSIBLE_REPEAT
        if status is RedeliveryStatus.REPEAT:
            result = MessageChanges()
        elif message.topic == DROPPED_TOPIC:
            change = self._session.note_dropped_count(message.payload)
            result = MessageChanges([change] if change else [])
        else:
            inbound = InboundMessage(
                message=message,
                key=None if mark is None else f"{self._session.name}-{mark.hex()}",
                possible_repeat=status is RedeliveryStatus.POSSIBLE_REPEAT,
            )
            result = self._message_handler.handle(inbound)
        # A QoS 1 message without changes is queued too, because PUBACKs must be sent in the order of receipt.
        if result.changes or message.qos:
            self._enqueue(connection, message, result, mark)

    def _enqueue(
        self, connection: Connection, message: Message, result: MessageChanges, mark: bytes | None = None
    ) -> None:
        name = self._session.name
        self._writer.put(PendingWrite(connection=connection, message=message, session=name, stored=result, mark=mark))

    # Messages that were deferred, and acknowledged at that time

    def _handle_deferred(self, inbound: InboundMessage) -> None:
        result = self._message_handler.handle(inbound)
        if result.changes and self._open_connection is not None:
            self._enqueue(self._open_connection, inbound.message, result)

    def _write_description(self, payload: bytes, changes: Sequence[Change]) -> None:
        if changes and self._open_connection is not None:
            self._enqueue(self._open_connection, Message(topic="", payload=payload), MessageChanges(changes))

    def _forget_device(self, device: str) -> None:
        self._writes.forget_device(device)
        self._rate_limiter.forget_device(device)

    # Subscriptions

    def _update_subscriptions(self, change: SubscriptionChange) -> None:
        if change.removed is not None:
            self._broker_state.forget_topics(change.removed.thing.topics)
        connection = self._open_connection
        if connection is None:
            return
        if change.removed is not None:
            topics, availability = change.removed.subscribed_topics()
            connection.unsubscribe(
                [topic for topic in (*topics, *availability) if topic not in self._device_table.routes]
            )
        if change.added is not None:
            topics, availability = change.added.subscribed_topics()
            self._new_topics.put_nowait((connection, [*availability, *topics]))

    async def _subscribe_new(self) -> None:
        while True:
            connection, topics = await self._new_topics.get()
            if topics == [DROPPED_TOPIC]:
                await self._subscribe_to_drops(connection)
                continue
            try:
                await self._subscribe(connection, topics, again=True)
            except MqttError as error:
                # Without an answer the subscriptions are unknown: the next connection makes all of them again.
                connection.close(error.code)

    async def _subscribe_to_drops(self, connection: Connection) -> None:
        """Subscribe to the count of dropped messages; after a refusal or a lost connection not for 24 hours."""
        now = self._clock.monotonic()
        if now < self._dropped_topic_from:
            return
        try:
            # With QoS 1 the broker would queue its own counters while the gateway is away.
            await connection.subscribe([DROPPED_TOPIC], qos=0)
        except MqttError as error:
            self._dropped_topic_from = now + _DROPPED_TOPIC_RETRY_SECONDS
            _LOGGER.info("The broker does not publish its count of dropped messages (%s); next try in 24 hours", error)

    async def _subscribe(self, connection: Connection, topics: Sequence[str], *, again: bool) -> None:
        for chunk in batched(topics, _MAX_TOPICS_A_PACKET, strict=False):
            refused = await connection.subscribe(chunk, retained_again=again)
            self.counts["subscriptions_refused"] += len(refused)
            for topic in chunk:
                if topic not in refused:
                    self._broker_state.note_allowed(topic)
                elif topic in self._filters or self._device_table.is_claimed(topic):  # its device may be removed by now
                    self._broker_state.note_denied(topic)

    # Changes for watchers

    def _notify(self, change: DeviceChange) -> None:
        for watcher in self._watchers:
            watcher(change)

    def _mark_away(self) -> None:
        self._away_timer = None
        self._is_away = True
        for twin in self._device_table.twins.values():
            if twin.online is not False:
                self._notify(AvailabilityChanged(sequence=0, device=twin.id, online=False))

    def _mark_back(self) -> None:
        if self._away_timer is not None:
            self._away_timer.cancel()
            self._away_timer = None
        if self._is_away:
            self._is_away = False
            for twin in self._device_table.twins.values():
                if twin.online is not False:
                    self._notify(AvailabilityChanged(sequence=0, device=twin.id, online=twin.online))

    def _send(self, device: str, name: str, value: Value) -> Confirmation | None:
        connection, twin = self._connection, self._device_table.twins.get(device)
        topic = twin.thing.writes.get(name) if twin else None
        if connection is None or topic is None:
            return None
        is_inverted = twin is not None and name in twin.thing.inverted
        sent = connection.send(topic, orjson.dumps(not value if is_inverted else value))
        sent.add_done_callback(partial(self._note_sent, topic))
        return sent

    def _note_sent(self, topic: str, sent: Confirmation) -> None:
        if sent.cancelled():
            return
        if sent.exception() is None:
            self._broker_state.note_allowed(topic)
        elif isinstance(sent.exception(), DeniedError) and self._device_table.is_claimed(topic):
            self._broker_state.note_denied(topic)
