"""Devices: what the rest of the gateway knows of Things."""

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
from process_cosmos_gateway.options import MEGABYTE
from process_cosmos_gateway.outbox import Outbox
from process_cosmos_gateway.store import Store

from . import repository
from .message_handler import Intake, News
from .message_writer import Arrival, Change, MessageWriter
from .mqtt.broker_reconnect import Bridge
from .mqtt.broker_state import Link
from .mqtt.connection import Connection, Message
from .mqtt.errors import DeniedError, MqttError
from .mqtt.mqtt_session import DROPPED_TOPIC, Session
from .mqtt.redelivery import Delivery, ReceivedMessages
from .options import BrokerOptions, ReadingOptions
from .readings.forwarding import Forwarding
from .readings.retention import Retention
from .things.description import DescriptionError, parse_description
from .things.description_intake import NEW_A_MINUTE, Descriptions, Listening
from .things.device_table import DeviceTable
from .things.property_writes import Sent, Writes
from .things.rate_limiter import RateLimiter, Received
from .things.twin import Twin, as_device, problem_with

_LOGGER = logging.getLogger(__name__)

AWAY_SECONDS = 10.0
"""For so long the broker may be away before devices count as offline."""

_TOPICS_AT_ONCE = 200
_WITHOUT_DROPS_SECONDS = 24 * 3600.0


class Devices:
    """Hears Things and writes to them, as long as ``run`` runs. ``counts``: what was passed over, and why."""

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
    ) -> None:
        """Take the parts; ``broker`` None: there are no devices. ``new_a_minute``: devices taken in within a minute."""
        self.counts: Counter[str] = Counter()
        self._store = store
        self._clock = clock
        options = readings or ReadingOptions()
        self._retention = Retention(store, outbox, clock, self.counts, options.megabytes * MEGABYTE)
        self._forwarding = Forwarding(outbox, clock, options, self.counts)
        self._received = ReceivedMessages()
        self._session = Session(store, outbox, clock, ulid_fn, self._received)
        self._broker = broker
        self._filters = broker.topics if broker else ()
        self._watchers: list[Callable[[DeviceChange], None]] = []
        self._device_table = DeviceTable()
        self._writer = MessageWriter(store, outbox, self.counts, options.linger, self._received)
        self._writes = Writes(store, clock, self.counts, self._send)
        self._throttle = RateLimiter(self.counts, clock.monotonic)
        self._link = Link(clock.monotonic)
        self._descriptions = Descriptions(
            device_table=self._device_table,
            filters=self._filters,
            counts=self.counts,
            new_a_minute=new_a_minute,
            tell=self._tell,
            listen=self._listen,
            on_removed=self._forget,
        )
        self._intake = Intake(
            device_table=self._device_table,
            descriptions=self._descriptions,
            throttle=self._throttle,
            outbox=outbox,
            writes=self._writes,
            clock=clock,
            ulid_fn=ulid_fn,
            forwarding=self._forwarding,
            counts=self.counts,
            tell=self._tell,
        )
        self._bridge: Bridge | None = None
        self._away = False
        self._away_timer: asyncio.TimerHandle | None = None
        self._open: Connection | None = None
        self._dropped_topic_from = 0.0
        self._new_topics: asyncio.Queue[tuple[Connection, list[str]]] = asyncio.Queue()

    @property
    def broker_connected(self) -> bool:
        """Whether devices can be heard and written to."""
        return self._connection is not None

    @property
    def broker_link(self) -> BrokerLink | None:
        """How the link to the broker stands; None: there are no devices."""
        if self._broker is None:
            return None
        turned_away = self.counts[Code.TOO_MANY_DEVICES] > 0
        return self._link.read(self._throttle.limited, turned_away=turned_away)

    @property
    def broker_dropped(self) -> int:
        """How many messages, to any of its clients, the broker has dropped since this gateway first heard of it."""
        return self._session.broker_dropped

    @property
    def gaps(self) -> int:
        """How often, for ever, the broker had lost our session, and with it what devices said meanwhile."""
        return self._session.gaps

    @property
    def identity_conflict(self) -> bool:
        """Whether another client has taken our name at the broker over, twice within a minute."""
        return self._bridge is not None and self._bridge.identity_conflict

    @property
    def _connection(self) -> Connection | None:
        connection = self._bridge.connection if self._bridge else None
        return connection if connection is not None and connection.alive else None

    def devices(self) -> tuple[Device, ...]:
        """Return all devices as they are now."""
        return tuple(as_device(twin, reachable=not self._away) for twin in self._device_table.twins.values())

    def watch(self, on_change: Callable[[DeviceChange], None]) -> None:
        """Call ``on_change`` with every change, before it is on disk; its ``sequence`` is for the feed to fill."""
        self._watchers.append(on_change)

    async def write(self, request: WriteProperty) -> None:
        """Let a Thing take a value: return when it is published and on disk; then it is repeated until reported.

        Raises ``RequestRefusedError`` and ``StoreError``.
        """
        twin = self._device_table.twins.get(request.device)
        if twin is None:
            raise RequestRefusedError(Code.UNKNOWN_DEVICE, "This device is not known")
        asked = next((each for each in twin.thing.device.properties if each.name == request.property), None)
        if asked is None:
            raise RequestRefusedError(Code.UNKNOWN_PROPERTY, f"{twin.thing.device.title} has no such property")
        if not asked.writable:
            raise RequestRefusedError(Code.READ_ONLY, f"{asked.title} cannot be written")
        if problem := problem_with(twin.thing.device, request.property, request.value):
            raise RequestRefusedError(Code.INVALID_VALUE, problem)
        held = twin.held.get(request.property)
        reported = None if held is None else held.value
        value = request.value
        if asked.integer and isinstance(value, float):
            value = int(value)
        if not await self._writes.begin(request.device, request.property, value, request.expires_in, reported):
            raise RequestRefusedError(Code.BROKER_AWAY, "The broker is away, devices cannot be reached")

    async def run(self) -> None:
        """Hear and write until cancelled; raise ``StoreError`` if ``load`` was not called before and fails."""
        if self._broker is None:
            await asyncio.get_running_loop().create_future()
            return
        if not self._session.name:
            await self.load()
        bridge = self._bridge = Bridge(
            self._broker,
            f"process-cosmos-{self._store.site}",
            on_message=self._on_message,
            on_open=self._on_open,
            on_ended=self._received.end_connection,
            on_lost=self._on_lost,
            on_stop=self._writer.finish,
        )
        self._on_lost("starting")
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._writer.run(), name="devices: keeper")
                group.create_task(self._writes.run(), name="devices: writes")
                group.create_task(self._forwarding.run(self._store), name="devices: leaving")
                group.create_task(self._retention.run(), name="devices: old readings")
                group.create_task(self._subscribe_new(), name="devices: subscriptions")
                group.create_task(self._throttle.run(self._take_held), name="devices: states held back")
                group.create_task(
                    self._descriptions.run(self._write_description, self._intake.complain), name="devices: descriptions"
                )
                group.create_task(bridge.run(), name="devices: bridge")
        finally:
            self._bridge = None
            self._is_back()
            await self._writer.finish()

    async def load(self) -> None:
        """Know again what was known at the last commit; raise ``StoreError``. Before anybody asks for ``devices``."""
        if self._broker is None:
            return
        for each in await self._store.read(repository.known_devices):
            try:
                thing = parse_description(each.topic, each.description, self._filters)
                twin = self._device_table.admit(thing, each.description)
            except DescriptionError as error:
                _LOGGER.warning("%s is not known any more: %s", each.topic, error)
            else:
                names = {described.name for described in thing.device.properties}
                held = {name: reading for name, reading in each.held.items() if name in names}
                self._device_table.twins[twin.id] = Twin(thing=thing, online=each.online, held=held)
        await self._writes.load()
        await self._session.load()

    # What the bridge calls

    async def _on_open(self, connection: Connection) -> None:
        self._open = connection
        held = (reading.time for twin in self._device_table.twins.values() for reading in twin.held.values())
        await self._session.opened(present=connection.session_present, heard_at=max(held, default=None))
        heard = list(self._filters)
        values = []
        for twin in self._device_table.twins.values():
            topics, availability = twin.heard_topics()
            # How a property stands that has no value here (it is new, or a backup was restored) the broker may know.
            unknown = [topic for topic, name in twin.thing.reads.items() if name not in twin.held]
            values += [topic for topic in topics if topic not in unknown]
            heard += [*unknown, *availability]
        await self._subscribe(connection, heard, again=True)
        await self._subscribe(connection, values, again=False)
        self._link.opened(connection)
        self._is_back()
        self._new_topics.put_nowait((connection, [DROPPED_TOPIC]))

    def _on_lost(self, reason: str) -> None:
        self._link.lost(reason)
        if self._away_timer is None and not self._away:
            self._away_timer = asyncio.get_running_loop().call_later(AWAY_SECONDS, self._is_away)

    def _on_message(self, connection: Connection, message: Message) -> None:
        mark = message.mark if message.qos else None
        delivery = Delivery.NEW if mark is None else self._received.receive(mark, redelivered=message.redelivered)
        self.counts["repeats"] += delivery is Delivery.REPEAT
        self.counts["possible_repeats"] += delivery is Delivery.POSSIBLE_REPEAT
        if delivery is Delivery.REPEAT:
            news = News()
        elif message.topic == DROPPED_TOPIC:
            change = self._session.take_dropped(message.payload)
            news = News([change] if change else [])
        else:
            received = Received(
                message=message,
                key=None if mark is None else f"{self._session.name}-{mark.hex()}",
                possible_repeat=delivery is Delivery.POSSIBLE_REPEAT,
            )
            news = self._intake.take(received)
        if news.changes or message.qos:
            self._keep(connection, message, news, mark)

    def _keep(self, connection: Connection, message: Message, news: News, mark: bytes | None = None) -> None:
        arrival = Arrival(
            connection=connection,
            message=message,
            session=self._session.name,
            mark=mark,
            changes=news.changes,
            is_reading=news.is_reading,
        )
        self._writer.put(arrival)

    # What was acknowledged before it was its turn

    def _take_held(self, received: Received) -> None:
        news = self._intake.take(received)
        if news.changes and self._open is not None:
            self._keep(self._open, received.message, news)

    def _write_description(self, payload: bytes, changes: Sequence[Change]) -> None:
        if changes and self._open is not None:
            self._keep(self._open, Message(topic="", payload=payload), News(changes))

    def _forget(self, device: str) -> None:
        self._writes.forget(device)
        self._throttle.forget(device)

    # Subscriptions

    def _listen(self, listening: Listening) -> None:
        if listening.end is not None:
            self._link.forget(listening.end.thing.topics)
        connection = self._open
        if connection is None:
            return
        if listening.end is not None:
            heard, availability = listening.end.heard_topics()
            connection.unsubscribe(
                [topic for topic in (*heard, *availability) if topic not in self._device_table.routes]
            )
        if listening.begin is not None:
            heard, availability = listening.begin.heard_topics()
            self._new_topics.put_nowait((connection, [*availability, *heard]))

    async def _subscribe_new(self) -> None:
        while True:
            connection, topics = await self._new_topics.get()
            if topics == [DROPPED_TOPIC]:
                await self._listen_to_drops(connection)
                continue
            try:
                await self._subscribe(connection, topics, again=True)
            except MqttError as error:
                # Without an answer nobody knows what is heard: the next connection subscribes to all.
                connection.close(error.code)

    async def _listen_to_drops(self, connection: Connection) -> None:
        """Listen to what the broker drops, unless it answered that with silence, or by ending the connection."""
        now = self._clock.monotonic()
        if now < self._dropped_topic_from:
            return
        try:
            # With QoS 1 it would queue its own news while we are away.
            await connection.subscribe([DROPPED_TOPIC], qos=0)
        except MqttError as error:
            self._dropped_topic_from = now + _WITHOUT_DROPS_SECONDS
            _LOGGER.info("The broker does not tell what it drops (%s); it is not asked again today", error)

    async def _subscribe(self, connection: Connection, topics: Sequence[str], *, again: bool) -> None:
        for some in batched(topics, _TOPICS_AT_ONCE, strict=False):
            refused = await connection.subscribe(some, retained_again=again)
            self.counts["subscriptions_refused"] += len(refused)
            for topic in some:
                if topic not in refused:
                    self._link.allowed(topic)
                elif topic in self._filters or self._device_table.is_claimed(
                    topic
                ):  # its device may have gone meanwhile
                    self._link.denied(topic)

    # Telling

    def _tell(self, change: DeviceChange) -> None:
        for watcher in self._watchers:
            watcher(change)

    def _is_away(self) -> None:
        self._away_timer = None
        self._away = True
        for twin in self._device_table.twins.values():
            if twin.online is not False:
                self._tell(AvailabilityChanged(sequence=0, device=twin.id, online=False))

    def _is_back(self) -> None:
        if self._away_timer is not None:
            self._away_timer.cancel()
            self._away_timer = None
        if self._away:
            self._away = False
            for twin in self._device_table.twins.values():
                if twin.online is not False:
                    self._tell(AvailabilityChanged(sequence=0, device=twin.id, online=twin.online))

    def _send(self, device: str, name: str, value: Value) -> Sent | None:
        connection, twin = self._connection, self._device_table.twins.get(device)
        topic = twin.thing.writes.get(name) if twin else None
        if connection is None or topic is None:
            return None
        is_inverted = twin is not None and name in twin.thing.inverted
        sent = connection.send(topic, orjson.dumps(not value if is_inverted else value))
        sent.add_done_callback(partial(self._note_sent, topic))
        return sent

    def _note_sent(self, topic: str, sent: Sent) -> None:
        if sent.cancelled():
            return
        if sent.exception() is None:
            self._link.allowed(topic)
        elif isinstance(sent.exception(), DeniedError) and self._device_table.is_claimed(topic):
            self._link.denied(topic)
