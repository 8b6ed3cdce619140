"""Watches the broker: leaks of devices, commands to their valves, and every message of theirs by topic."""

import asyncio
import time
from collections.abc import Callable

import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion

from .broker_log import Acknowledged
from .evidence import DeviceEvent, Leak, Record, Scalar, ValveCommand
from .thing_topics import MessageKind, Topic, scalar, topics_of


class BrokerWatch:
    """A client of the broker that receives every message, in the broker's order."""

    def __init__(self, port: int, write: Callable[[Record], None]) -> None:
        """Connect to ``port`` of 127.0.0.1; ``write`` gets each record."""
        self._write = write
        self._loop = asyncio.get_running_loop()
        self._topics: dict[str, Topic] = {}
        self._payloads: dict[str, list[Scalar]] = {}
        self._begun: dict[str, int] = {}
        self._connected = asyncio.Event()
        self._client = mqtt.Client(CallbackAPIVersion.VERSION2, "ledger", protocol=mqtt.MQTTv5)
        self._client.on_connect = self._on_connect
        self._client.on_message = self._on_message
        self._client.connect("127.0.0.1", port)

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
        self._begun = {topic: len(said) for topic, said in self._payloads.items()}

    def events(self, acknowledged: Acknowledged) -> list[DeviceEvent]:
        """Return the devices' transitions and events among the acknowledged messages, by topic, in order."""
        events = []
        for name, topic in self._topics.items():
            happened, stood = acknowledged.by_topic.get(name, set()), acknowledged.retained.get(name, set())
            previous: Scalar = None
            for index, value in enumerate(self._payloads.get(name, ())):
                transition = topic.kind is MessageKind.VALUE and topic.boolean and value != previous
                counts = index in happened and index >= self._begun.get(name, 0)
                if counts and (transition or topic.kind is MessageKind.EVENT):
                    events.append(DeviceEvent(device=(topic.device, topic.affordance), value=value))
                if index in happened | stood:
                    previous = value
        return events

    def _on_connect(self, client: mqtt.Client, *_: object) -> None:
        client.subscribe("#", qos=1)
        self._loop.call_soon_threadsafe(self._connected.set)

    def _on_message(self, _client: mqtt.Client, _userdata: object, message: mqtt.MQTTMessage) -> None:
        self._loop.call_soon_threadsafe(self._take, message.topic, message.payload)

    def _take(self, name: str, payload: bytes) -> None:
        value = scalar(payload)
        said = self._payloads.setdefault(name, [])
        previous = said[-1] if said else None
        said.append(value)
        topic = self._topics.get(name)
        if topic is None:
            self._topics.update(topics_of(name, payload))
        elif topic.moisture and value is True and previous is not True:
            self._write(Leak(sensor=topic.device))
        elif topic.kind is MessageKind.COMMAND:
            self._write(ValveCommand(valve=topic.device, closes=value is False, at=time.monotonic()))
