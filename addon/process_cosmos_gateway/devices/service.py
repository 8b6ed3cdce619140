"""Devices: what the rest of the gateway knows of Things."""

import asyncio
import contextlib
import logging
from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from itertools import batched

import orjson

from process_cosmos_gateway.clock import Clock
from process_cosmos_gateway.contract.devices import AvailabilityChanged, Device, Value, WriteProperty
from process_cosmos_gateway.contract.errors import Code
from process_cosmos_gateway.contract.identifiers import Ulid
from process_cosmos_gateway.contract.messages import DeviceChange
from process_cosmos_gateway.errors import RequestRefusedError, StoreError
from process_cosmos_gateway.outbox import Outbox
from process_cosmos_gateway.store import Store

from . import memory
from .bridge import Bridge
from .description import DescriptionError, parse_description
from .intake import Intake, Listening
from .keeper import Arrival, Keeper
from .mqtt import Connection, Message, MqttError
from .options import BrokerOptions
from .roster import Roster
from .twin import Twin, as_device, problem_with
from .writes import Writes

_LOGGER = logging.getLogger(__name__)

AWAY_SECONDS = 10.0
"""For so long the broker may be away before devices count as offline."""

READING_DAYS = 10
_MOST_WAITING = 10_000
_PRUNE_SECONDS = 3600.0
_TOPICS_AT_ONCE = 200


class Devices:
    """Hears Things and writes to them, as long as ``run`` runs. ``counts``: what was passed over, and why."""

    def __init__(
        self, store: Store, outbox: Outbox, clock: Clock, ulid_fn: Callable[[], Ulid], broker: BrokerOptions | None
    ) -> None:
        """Take the parts; ``broker`` None: there are no devices."""
        self.counts: Counter[str] = Counter()
        self._store = store
        self._clock = clock
        self._ulid_fn = ulid_fn
        self._broker = broker
        self._filters = broker.topics if broker else ()
        self._watchers: list[Callable[[DeviceChange], None]] = []
        self._roster = Roster()
        self._keeper = Keeper(store, self.counts)
        self._writes = Writes(store, clock, self.counts, self._send)
        self._intake = Intake(
            roster=self._roster,
            filters=self._filters,
            outbox=outbox,
            writes=self._writes,
            clock=clock,
            ulid_fn=ulid_fn,
            counts=self.counts,
            tell=self._tell,
        )
        self._bridge: Bridge | None = None
        self._session = ""
        self._away = False
        self._away_timer: asyncio.TimerHandle | None = None
        self._new_topics: asyncio.Queue[tuple[Connection, list[str]]] = asyncio.Queue()

    @property
    def broker_connected(self) -> bool:
        """Whether devices can be heard and written to."""
        return self._connection is not None

    @property
    def broker_dropped(self) -> int:
        """How many messages the broker says it had to drop since this start."""
        return 0

    @property
    def gaps(self) -> int:
        """How often, for ever, the broker had lost our session, and with it what devices said meanwhile."""
        return 0

    @property
    def identity_conflict(self) -> bool:
        """Whether another client has taken our name at the broker over, twice within a minute."""
        return False

    @property
    def _connection(self) -> Connection | None:
        connection = self._bridge.connection if self._bridge else None
        return connection if connection is not None and connection.alive else None

    def devices(self) -> tuple[Device, ...]:
        """Return all devices as they are now."""
        return tuple(as_device(twin, reachable=not self._away) for twin in self._roster.twins.values())

    def watch(self, on_change: Callable[[DeviceChange], None]) -> None:
        """Call ``on_change`` with every change, before it is on disk; its ``sequence`` is for the feed to fill."""
        self._watchers.append(on_change)

    async def write(self, request: WriteProperty) -> None:
        """Let a Thing take a value: return when it is published and on disk; then it is repeated until reported.

        Raises ``RequestRefusedError`` and ``StoreError``.
        """
        twin = self._roster.twins.get(request.device)
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
        if not self._session:
            await self.load()
        bridge = self._bridge = Bridge(
            self._broker,
            f"process-cosmos-{self._store.site}",
            on_message=self._on_message,
            on_open=self._on_open,
            on_lost=self._on_lost,
        )
        self._on_lost("starting")
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._keeper.run(), name="devices: keeper")
                group.create_task(self._writes.run(), name="devices: writes")
                group.create_task(self._prune(), name="devices: prune")
                group.create_task(self._subscribe_new(), name="devices: subscriptions")
                group.create_task(bridge.run(), name="devices: bridge")
        finally:
            self._bridge = None
            self._is_back()

    async def load(self) -> None:
        """Know again what was known at the last commit; raise ``StoreError``. Before anybody asks for ``devices``."""
        if self._broker is None:
            return
        name, known = await self._store.read(
            lambda transaction: (memory.session_name(transaction), memory.known_devices(transaction))
        )
        for each in known:
            try:
                thing = parse_description(each.topic, each.description, self._filters)
                twin = self._roster.admit(thing)
            except DescriptionError as error:
                _LOGGER.warning("%s is not known any more: %s", each.topic, error)
            else:
                names = {described.name for described in thing.device.properties}
                held = {name: reading for name, reading in each.held.items() if name in names}
                self._roster.twins[twin.id] = Twin(thing=thing, online=each.online, held=held)
        await self._writes.load()
        if name is None:
            await self._begin_session()
        else:
            self._session = name

    async def _begin_session(self) -> None:
        """Name the broker's session anew, on disk before its first message."""
        name = self._ulid_fn()
        await self._store.write(lambda transaction: memory.begin_session(transaction, name))
        self._session = name

    async def _prune(self) -> None:
        while True:
            now = self._clock.now().timestamp()
            try:
                await self._store.write(partial(memory.forget_old, before=now - READING_DAYS * 86400, now=now))
            except StoreError as error:
                _LOGGER.warning("Old readings stay for now: %s", error)
            await asyncio.sleep(_PRUNE_SECONDS)

    # What the bridge calls

    async def _on_open(self, connection: Connection) -> None:
        if not connection.session_present:
            if self._roster.twins:
                self.counts["sessions_lost"] += 1
                _LOGGER.warning("The broker has lost our session: what devices said meanwhile may be missing")
            await self._begin_session()
        heard = list(self._filters)
        values = []
        for twin in self._roster.twins.values():
            topics, availability = self._roster.heard_topics(twin)
            values += topics
            heard += availability
        await self._subscribe(connection, heard, again=True)
        await self._subscribe(connection, values, again=False)
        self._is_back()

    def _on_lost(self, _reason: str) -> None:
        if self._away_timer is None and not self._away:
            self._away_timer = asyncio.get_running_loop().call_later(AWAY_SECONDS, self._is_away)

    def _on_message(self, connection: Connection, message: Message) -> None:
        changes = []
        if message.qos or self._keeper.waiting < _MOST_WAITING:
            changes = self._intake.take(message, self._session, partial(self._listen, connection))
        else:
            self.counts["dropped"] += 1
        if changes or message.qos:
            self._keeper.put(Arrival(connection=connection, message=message, session=self._session, changes=changes))

    # Subscriptions

    def _listen(self, connection: Connection, listening: Listening) -> None:
        if listening.end is not None:
            heard, availability = self._roster.heard_topics(listening.end)
            connection.unsubscribe([topic for topic in (*heard, *availability) if topic not in self._roster.routes])
        if listening.begin is not None:
            heard, availability = self._roster.heard_topics(listening.begin)
            self._new_topics.put_nowait((connection, [*availability, *heard]))

    async def _subscribe_new(self) -> None:
        while True:
            connection, topics = await self._new_topics.get()
            with contextlib.suppress(MqttError):  # the connection has ended; the next one subscribes to all
                await self._subscribe(connection, topics, again=True)

    async def _subscribe(self, connection: Connection, topics: Sequence[str], *, again: bool) -> None:
        for some in batched(topics, _TOPICS_AT_ONCE, strict=False):
            refused = await connection.subscribe(some, retained_again=again)
            if refused:
                self.counts["subscriptions_refused"] += len(refused)
                _LOGGER.warning("The broker does not let us listen to %s", ", ".join(refused))

    # Telling

    def _tell(self, change: DeviceChange) -> None:
        for watcher in self._watchers:
            watcher(change)

    def _is_away(self) -> None:
        self._away_timer = None
        self._away = True
        for twin in self._roster.twins.values():
            if twin.online is not False:
                self._tell(AvailabilityChanged(sequence=0, device=twin.id, online=False))

    def _is_back(self) -> None:
        if self._away_timer is not None:
            self._away_timer.cancel()
            self._away_timer = None
        if self._away:
            self._away = False
            for twin in self._roster.twins.values():
                if twin.online is not False:
                    self._tell(AvailabilityChanged(sequence=0, device=twin.id, online=twin.online))

    def _send(self, device: str, name: str, value: Value) -> bool:
        connection, twin = self._connection, self._roster.twins.get(device)
        topic = twin.thing.writes.get(name) if twin else None
        if connection is None or topic is None:
            return False
        connection.send(topic, orjson.dumps(value))
        return True
