"""Helpers for tests of devices: a running devices service, and an MQTT client."""

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson

from process_cosmos_gateway.clock import Clock, SystemClock
from process_cosmos_gateway.contract.destinations import EventKind
from process_cosmos_gateway.contract.devices import Device, EventHappened, Value, ValueChanged, WriteProperty
from process_cosmos_gateway.contract.messages import DeviceChange
from process_cosmos_gateway.devices import Devices
from process_cosmos_gateway.devices.mqtt.connection import Connection, Message
from process_cosmos_gateway.options import BrokerOptions, ReadingOptions
from process_cosmos_gateway.outbox import Delivered, Outbox
from process_cosmos_gateway.store import Store
from tests.gateway.store.parts import new_ulids, opened
from tests.support.waiting import until

EVERYTHING = "everything"
"""A destination that subscribes to all kinds, so that events stay in the outbox."""


@dataclass
class RunningDevices:
    """A running devices service, and the changes it has reported."""

    devices: Devices
    store: Store
    outbox: Outbox
    changes: list[DeviceChange] = field(default_factory=list)
    delivered: list[dict[str, Any]] = field(default_factory=list)

    def device(self, device_id: str) -> Device | None:
        return next((device for device in self.devices.devices() if device.id == device_id), None)

    def value(self, device_id: str, name: str) -> Value | None:
        device = self.device(device_id)
        return next((each.value for each in device.properties if each.name == name), None) if device else None

    def values(self, name: str) -> list[Any]:
        return [change.value for change in self.changes if isinstance(change, ValueChanged) and change.property == name]

    def events(self, name: str) -> list[EventHappened]:
        return [change for change in self.changes if isinstance(change, EventHappened) and change.event == name]

    async def write(self, device: str, name: str, value: Value, expires_in: float = 30.0) -> None:
        await self.devices.write(
            WriteProperty(id="1", device=device, property=name, value=value, expires_in=expires_in)
        )

    async def rows(self, sql: str) -> list[tuple[Any, ...]]:
        return await self.store.read(lambda transaction: transaction.rows(sql))

    async def wait_for_rows(self, sql: str, wanted: list[tuple[Any, ...]]) -> None:
        async with asyncio.timeout(30):
            while await self.rows(sql) != wanted:  # noqa: ASYNC110 - the store has no event to wait for
                await asyncio.sleep(0.01)

    async def wait_until_acknowledged(self, device: Client, topic: str, value: float) -> None:
        """Publish two more numbers: once the second is on disk, all earlier messages are acknowledged."""
        for number in (value, value + 1):
            await device.publish(topic, number)
            name = topic.rpartition("/")[2]
            await self.wait_for_rows(
                f"SELECT CAST(value AS REAL) FROM device_property WHERE name = '{name}'",  # noqa: S608 - the test's own words
                [(float(number),)],
            )

    async def drain(self) -> list[dict[str, Any]]:
        """Deliver all pending events to the destination; return all events delivered so far."""
        deliveries = await self.outbox.deliveries(EVERYTHING, 500)
        await self.outbox.settle(EVERYTHING, [(delivery, Delivered()) for delivery in deliveries])
        self.delivered += [orjson.loads(delivery.body) for delivery in deliveries]
        return self.delivered

    async def wait_for_events(self, wanted: Callable[[dict[str, Any]], bool], count: int) -> list[dict[str, Any]]:
        """Return the delivered events that match ``wanted``, once there are ``count``."""
        async with asyncio.timeout(30):
            while len(found := [each for each in await self.drain() if wanted(each)]) < count:  # noqa: ASYNC110 - as above
                await asyncio.sleep(0.01)
        return found


@asynccontextmanager
async def running_devices(
    folder: Path,
    broker: BrokerOptions | None,
    *,
    clock: Clock | None = None,
    connected: bool = True,
    readings: ReadingOptions | None = None,
) -> AsyncIterator[RunningDevices]:
    """Run a devices service on the store in ``folder``; stop it as SIGTERM does."""
    async with opened(folder) as store:
        outbox = Outbox(store, clock or SystemClock())
        await outbox.register(EVERYTHING, set(EventKind))
        devices = Devices(store, outbox, clock or SystemClock(), new_ulids(), broker, readings=readings)
        found = RunningDevices(devices, store, outbox)
        devices.watch(found.changes.append)
        await devices.load()
        running = asyncio.create_task(devices.run())
        try:
            if connected:
                await until(lambda: devices.broker_connected or running.done())
            yield found
        finally:
            running.cancel()
            outcome = (await asyncio.gather(running, return_exceptions=True))[0]
        if isinstance(outcome, Exception):
            raise outcome


@asynccontextmanager
async def blocked_store(gateway: RunningDevices) -> AsyncIterator[None]:
    """Block all writes of the store inside the block, after the earlier ones have finished."""
    await until(lambda: not gateway.devices._writer._unacknowledged)
    hangs, goes_on = threading.Event(), threading.Event()

    def hang(_: object) -> None:
        hangs.set()
        goes_on.wait(20)

    hanging = asyncio.create_task(gateway.store.write(hang))
    await until(hangs.is_set)
    try:
        yield
    finally:
        goes_on.set()
        await hanging


@asynccontextmanager
async def client(broker: BrokerOptions, name: str = "client", topics: Sequence[str] = ()) -> AsyncIterator[Client]:
    """Connect an MQTT client that acknowledges every message."""
    received: list[Message] = []

    def receive(connection: Connection, message: Message) -> None:
        received.append(message)
        connection.acknowledge(message)

    connection = await Connection.open(broker, client_id=name, on_message=receive)
    try:
        await connection.subscribe(topics)
        yield Client(connection, received)
    finally:
        connection.close()


@dataclass
class Client:
    """A connected MQTT client, and the messages it has received."""

    connection: Connection
    received: list[Message]

    async def publish(self, topic: str, payload: object, *, retain: bool = False) -> None:
        data = payload if isinstance(payload, bytes) else orjson.dumps(payload)
        await self.connection.publish(topic, data, retain=retain)


async def set_up_tank(gateway: RunningDevices, tank: Client) -> None:
    """Add the Thing ``tank`` and subscribe to it; its level is 0, without a reading."""
    await tank.publish("wot/tank/properties/level", 0, retain=True)
    await tank.publish("wot/tank/td", description(), retain=True)
    await until(lambda: gateway.value("wot/tank", "level") == 0)


def description(**members: object) -> dict[str, Any]:
    """Return the description of the Thing ``tank``."""
    return description_of("tank", **members)


def description_of(thing: str, /, **members: object) -> dict[str, Any]:
    """Return the description of a Thing with a number, a writable boolean and a device event.

    The host in its hrefs is wrong.
    """
    base = f"mqtt://elsewhere:1/wot/{thing}"
    return {
        "@context": "https://www.w3.org/2022/wot/td/v1.1",
        "title": "Tank",
        "properties": {
            "level": {
                "type": "number",
                "readOnly": True,
                "forms": [{"href": f"{base}/properties/level", "op": "observeproperty"}],
            },
            "pump": {
                "type": "boolean",
                "forms": [
                    {"href": f"{base}/properties/pump", "op": ["readproperty", "observeproperty"]},
                    {"href": f"{base}/properties/pump/writeproperty", "op": ["writeproperty"]},
                ],
            },
        },
        "events": {"overflow": {"forms": [{"href": f"{base}/events/overflow", "op": "subscribeevent"}]}},
        **members,
    }


async def rows(store: Store, sql: str) -> list[tuple[object, ...]]:
    """Return the rows of a query."""
    return await store.read(lambda transaction: transaction.rows(sql))
