"""Watches the broker: leaks, commands to valves, and each payload of the virtual devices' topics."""

import asyncio
import re
import time
from collections.abc import Callable

import orjson
import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion

from process_cosmos_testbed.processes import LOCAL
from process_cosmos_testbed.virtual_devices.kinds import LEAK

from .broker_log import Acknowledged
from .evidence import DeviceEvent, Leak, Record, Scalar, ValveCommand

_TOPIC = re.compile(r"(?P<device>wot/[^/]+)/(?P<group>properties|events)/(?P<name>[^/]+)(?P<command>/writeproperty)?")
"""The topics of virtual devices (``virtual_devices/device.py``)."""


class BrokerWatch:
    """A client of the broker that receives every message, in the broker's order."""

    def __init__(self, port: int, write: Callable[[Record], None]) -> None:
        """Connect to ``port`` of 127.0.0.1; ``write`` gets each record."""
        self._write = write
        self._loop = asyncio.get_running_loop()
        self._payloads: dict[str, list[Scalar]] = {}
        self._begun: dict[str, int] = {}
        self._connected = asyncio.Event()
        self._client = mqtt.Client(CallbackAPIVersion.VERSION2, "ledger", protocol=mqtt.MQTTv5)
        self._client.on_connect = self._on_connect
        self._client.on_message = self._on_message
        self._client.connect(LOCAL, port)

    async def start(self) -> None:
        """Return when everything published from now on will be received."""
        self._client.loop_start()
        await self._connected.wait()

    def stop(self) -> None:
        """Disconnect from the broker."""
        self._client.disconnect()
        self._client.loop_stop()

    def begin(self) -> None:
        """Count device events from now on: before, no destination was configured."""
        self._begun = {topic: len(payloads) for topic, payloads in self._payloads.items()}

    def events(self, acknowledged: Acknowledged) -> list[DeviceEvent]:
        """Return the devices' transitions and events among the acknowledged messages, by topic, in order."""
        events = []
        for name, payloads in self._payloads.items():
            topic = _TOPIC.fullmatch(name)
            if topic is None or topic["command"]:
                continue
            happened, retained = acknowledged.by_topic.get(name, set()), acknowledged.retained.get(name, set())
            previous: Scalar = None
            for index, value in enumerate(payloads):
                is_transition = isinstance(value, bool) and value != previous
                counts = index in happened and index >= self._begun.get(name, 0)
                if counts and (topic["group"] == "events" or is_transition):
                    events.append(DeviceEvent(device=(topic["device"], topic["name"]), value=value))
                if index in happened | retained:
                    previous = value
        return events

    def take(self, name: str, payload: bytes) -> None:
        """Record a message."""
        value = scalar(payload)
        payloads = self._payloads.setdefault(name, [])
        previous = payloads[-1] if payloads else None
        payloads.append(value)
        topic = _TOPIC.fullmatch(name)
        if topic is None or topic["group"] == "events":
            return
        if topic["command"]:
            self._write(ValveCommand(valve=topic["device"], closes=value is False, at=time.monotonic()))
        elif topic["name"] == LEAK and value is True and previous is not True:
            self._write(Leak(sensor=topic["device"]))

    def _on_connect(self, client: mqtt.Client, *_: object) -> None:
        client.subscribe("#", qos=1)
        self._loop.call_soon_threadsafe(self._connected.set)

    def _on_message(self, _client: mqtt.Client, _userdata: object, message: mqtt.MQTTMessage) -> None:
        self._loop.call_soon_threadsafe(self.take, message.topic, message.payload)


def scalar(payload: bytes) -> Scalar:
    """Return a JSON value that is no object or list, else the text."""
    try:
        value = orjson.loads(payload)
    except orjson.JSONDecodeError:
        return payload.decode(errors="replace")
    return value if isinstance(value, (bool, int, float, str)) or value is None else payload.decode()
