"""The base of virtual devices: a connection, a retained Thing Description, and a last will.

The topics of a device named ``leak-kitchen`` begin with ``wot/leak-kitchen/``: its description at ``td``, its
availability (``online``, by last will ``offline``) at ``availability``, properties at ``properties/<name>`` (retained;
writes at ``properties/<name>/writeproperty``), device events at ``events/<name>``. It reconnects by itself, then
reports all its values, and sends again what the broker has not acknowledged.
"""

import asyncio
import contextlib
import time
from collections.abc import Callable, Mapping
from typing import Any, Self

import orjson

from process_cosmos_gateway.contract.devices import Value
from process_cosmos_gateway.devices.mqtt.connection import Connection, Message, Will
from process_cosmos_gateway.devices.mqtt.errors import MqttError
from process_cosmos_gateway.options import BrokerOptions
from process_cosmos_testbed.processes import until

_RETRY_SECONDS = 0.5

type Json = Mapping[str, Any]


class VirtualDevice:
    """A virtual device, which runs inside an ``async with`` block.

    ``connected``: set while the broker can be reached. ``cut_off``: monotonic time since when it cannot, else None.
    ``on_acknowledged``: gets path and payload of each publication once the broker has acknowledged it.
    """

    def __init__(self, broker: BrokerOptions, name: str, title: str | None = None) -> None:
        """Set the name, which is one level of a topic and unique at the broker."""
        self.broker = broker
        self.name = name
        self.title = title or name
        self.topic = f"wot/{name}"
        self.connected = asyncio.Event()
        self.cut_off: float | None = time.monotonic()
        self.values: dict[str, Value] = {}
        self.on_acknowledged: Callable[[str, bytes], None] = lambda _path, _payload: None
        self._connection: Connection | None = None
        self._runner: asyncio.Task[None] | None = None

    def properties(self) -> Mapping[str, Json]:
        """Return the properties of the description, without their forms."""
        return {}

    def events(self) -> Mapping[str, Json]:
        """Return the device events of the description, without their forms."""
        return {}

    def on_write(self, name: str, value: Value) -> None:
        """React to a value that was written to a property."""

    async def run(self) -> None:
        """Do what the device does by itself, until cancelled."""

    def description(self) -> Json:
        """Return the Thing Description (W3C WoT TD 1.1, with this project's term for the availability)."""
        return {
            "@context": [
                "https://www.w3.org/2022/wot/td/v1.1",
                {"cosmos": "https://github.com/process-cosmos/process-cosmos/wire#"},
            ],
            "id": f"urn:process-cosmos:testbed:{self.name}",
            "title": self.title,
            "securityDefinitions": {"none": {"scheme": "nosec"}},
            "security": "none",
            "cosmos:availability": {"href": self._href("availability")},
            "properties": {
                name: {**shape, "forms": self._property_forms(name, writable=not shape.get("readOnly", False))}
                for name, shape in self.properties().items()
            },
            "events": {
                name: {**shape, "forms": [{"href": self._href(f"events/{name}"), "op": "subscribeevent"}]}
                for name, shape in self.events().items()
            },
        }

    async def report(self, name: str, value: Value) -> None:
        """Publish a property's value, retained; return when the broker has acknowledged it."""
        self.values[name] = value
        await self.publish(f"properties/{name}", orjson.dumps(value), retain=True)

    async def emit(self, event: str, value: Value | None = None) -> None:
        """Publish a device event; return when the broker has acknowledged it."""
        await self.publish(f"events/{event}", orjson.dumps(value))

    async def publish(self, path: str, payload: bytes, *, retain: bool = False) -> None:
        """Publish below the device's topic with QoS 1; return when the broker has acknowledged it, however late."""
        while True:
            await self.connected.wait()
            if (connection := self._connection) is not None:
                try:
                    await connection.publish(f"{self.topic}/{path}", payload, retain=retain)
                except MqttError:
                    if connection.alive:  # the broker has denied it, and would deny it again
                        raise
                else:
                    self.on_acknowledged(path, payload)
                    return
            self.connected.clear()

    async def vanish(self) -> None:
        """Drop the connection as a power cut does (the broker publishes the last will); the device reconnects."""
        if self._connection is not None:
            self._connection.drop()

    async def until(self, condition: Callable[[], object], seconds: float = 10.0) -> None:
        """Return when ``condition`` holds; raise ``TimeoutError`` after ``seconds``."""
        await until(condition, f"state of {self.name}", seconds, every=0.005)

    async def __aenter__(self) -> Self:
        """Start the device; it connects as soon as it can (``await device.connected.wait()``)."""
        self._runner = asyncio.create_task(self._run_connected(), name=f"device {self.name}")
        return self

    async def __aexit__(self, *_: object) -> None:
        """Disconnect: the description stays, the availability becomes ``offline``."""
        # After a DISCONNECT the broker does not publish the last will.
        if self._connection is not None and self._connection.alive:
            with contextlib.suppress(MqttError, TimeoutError):
                async with asyncio.timeout(1):
                    await self._connection.publish(f"{self.topic}/availability", b"offline", retain=True)
        if self._runner is not None:
            self._runner.cancel()
            await asyncio.gather(self._runner, return_exceptions=True)

    async def ended(self) -> None:
        """Return, or raise its error, when the device has stopped."""
        if self._runner is not None:
            await asyncio.shield(self._runner)  # a caller may be cancelled without ending the device

    async def withdraw(self) -> None:
        """Remove the description and all other retained messages of the device."""
        for path in ("td", "availability", *(f"properties/{name}" for name in self.properties())):
            await self.publish(path, b"", retain=True)

    async def _run_connected(self) -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(self.run())
            while True:
                with contextlib.suppress(MqttError):
                    await self._stay_connected()
                # Failed retries do not restart the time without a broker.
                self.cut_off = self.cut_off or time.monotonic()
                await asyncio.sleep(_RETRY_SECONDS)

    async def _stay_connected(self) -> None:
        connection = await Connection.open(
            self.broker,
            client_id=f"testbed-{self.name}",
            on_message=self._received,
            will=Will(topic=f"{self.topic}/availability", payload=b"offline"),
        )
        try:
            self._connection = connection
            await connection.subscribe([f"{self.topic}/properties/{name}/writeproperty" for name in self._writable()])
            await connection.publish(f"{self.topic}/td", orjson.dumps(self.description()), retain=True)
            await connection.publish(f"{self.topic}/availability", b"online", retain=True)
            # A copy, because values may change while a publication waits.
            for name, value in tuple(self.values.items()):
                await connection.publish(f"{self.topic}/properties/{name}", orjson.dumps(value), retain=True)
            self.cut_off = None
            self.connected.set()
            await connection.ended()
        finally:
            self.connected.clear()
            self._connection = None
            connection.close()

    def _received(self, connection: Connection, message: Message) -> None:
        connection.acknowledge(message)
        for name in self._writable():
            if message.topic == f"{self.topic}/properties/{name}/writeproperty":
                with contextlib.suppress(orjson.JSONDecodeError):
                    self.on_write(name, orjson.loads(message.payload))

    def _writable(self) -> list[str]:
        return [name for name, shape in self.properties().items() if not shape.get("readOnly", False)]

    def _property_forms(self, name: str, *, writable: bool) -> list[Json]:
        path = f"properties/{name}"
        forms: list[Json] = [{"href": self._href(path), "op": ["readproperty", "observeproperty"]}]
        if writable:
            forms.append({"href": self._href(f"{path}/writeproperty"), "op": "writeproperty"})
        return forms

    def _href(self, path: str) -> str:
        return f"mqtt://{self.broker.host}:{self.broker.port}/{self.topic}/{path}"
