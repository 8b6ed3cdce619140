"""What the broker carries: leaks of devices, commands to their valves, and every message of theirs by topic."""

import asyncio
import time

import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion

from .book import Book
from .broker_log import Acknowledged
from .evidence import Command, DeviceEvent, Leak, Scalar
from .things import Saying, Topic, scalar, topics_of


class BrokerWatch:
    """A client of the broker that hears everything, in the order in which the broker took it."""

    def __init__(self, port: int, book: Book) -> None:
        """Take the broker's port on 127.0.0.1, and the book."""
        self._book = book
        self._loop = asyncio.get_running_loop()
        self._topics: dict[str, Topic] = {}
        self._said: dict[str, list[Scalar]] = {}
        self._begun: dict[str, int] = {}
        self._connected = asyncio.Event()
        self._client = mqtt.Client(CallbackAPIVersion.VERSION2, "ledger", protocol=mqtt.MQTTv5)
        self._client.on_connect = self._on_connect
        self._client.on_message = self._on_message
        self._client.connect("127.0.0.1", port)

    async def start(self) -> None:
        """Return when everything published from now on will be heard."""
        self._client.loop_start()
        await self._connected.wait()

    def stop(self) -> None:
        """Leave the broker."""
        self._client.disconnect()
        self._client.loop_stop()

    def begin(self) -> None:
        """Count what devices say from now on: what they said before, no destination had asked for."""
        self._begun = {topic: len(said) for topic, said in self._said.items()}

    def events(self, acknowledged: Acknowledged) -> list[DeviceEvent]:
        """Return the devices' transitions and events among what was acknowledged, by topic, in order."""
        events = []
        for name, topic in self._topics.items():
            happened, stood = acknowledged.by_topic.get(name, set()), acknowledged.retained.get(name, set())
            previous: Scalar = None
            for index, value in enumerate(self._said.get(name, ())):
                transition = topic.saying is Saying.VALUE and topic.boolean and value != previous
                counts = index in happened and index >= self._begun.get(name, 0)
                if counts and (transition or topic.saying is Saying.EVENT):
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
        said = self._said.setdefault(name, [])
        previous = said[-1] if said else None
        said.append(value)
        topic = self._topics.get(name)
        if topic is None:
            self._topics.update(topics_of(name, payload))
        elif topic.moisture and value is True and previous is not True:
            self._book.write(Leak(sensor=topic.device))
        elif topic.saying is Saying.COMMAND:
            self._book.write(Command(valve=topic.device, closes=value is False, at=time.monotonic()))
