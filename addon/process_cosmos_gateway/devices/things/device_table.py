"""The table of known devices, and the routing of topics to them."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from hashlib import sha256

from process_cosmos_gateway.contract.devices import PropertyKind
from process_cosmos_gateway.contract.errors import Code

from .description import DescriptionError, Thing
from .twin import Twin, with_description

MAX_DEVICES = 1000
"""The most devices of a gateway, so that a flood of descriptions cannot fill it."""

MAX_DESCRIPTION_BYTES = 8_000_000
"""Bytes of all descriptions together, 8 kB each; the parsed ones use a few times as much memory."""


class Role(StrEnum):
    """What a Thing publishes on a topic."""

    PROPERTY = "property"
    EVENT = "event"
    AVAILABILITY = "availability"


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """The target of a topic; ``name``: the property or the device event."""

    role: Role
    device: str
    name: str = ""
    is_boolean: bool = False


class DeviceTable:
    """The known devices by id, and the routes of their topics; the first owner keeps a topic."""

    def __init__(self) -> None:
        """Begin without devices; those of the store are added like new ones."""
        self.twins: dict[str, Twin] = {}
        self.routes: dict[str, Route] = {}
        self._owners: dict[str, str] = {}
        self._topics: dict[str, str] = {}
        self._descriptions: dict[str, tuple[int, bytes]] = {}
        self._bytes = 0

    def by_topic(self, topic: str) -> Twin | None:
        """Return the twin whose description is retained at ``topic``."""
        device = self._topics.get(topic)
        return None if device is None else self.twins[device]

    def is_known(self, topic: str, description: bytes) -> bool:
        """Return whether ``description`` is the current one of ``topic``."""
        return self._descriptions.get(topic) == _fingerprint(description)

    def is_claimed(self, topic: str) -> bool:
        """Return whether a device reads or writes ``topic``."""
        return topic in self._owners

    def check_room(self, topic: str, size: int) -> None:
        """Raise ``DescriptionError`` if a description of ``size`` bytes at ``topic`` exceeds the limits."""
        before, _ = self._descriptions.get(topic, (0, b""))
        if topic not in self._topics and len(self.twins) >= MAX_DEVICES:
            raise DescriptionError(Code.TOO_MANY_DEVICES, f"There are {MAX_DEVICES} devices already")
        if self._bytes - before + size > MAX_DESCRIPTION_BYTES:
            raise DescriptionError(Code.TOO_MANY_DEVICES, "The descriptions of all devices exceed the memory limit")

    def add(self, thing: Thing, description: bytes = b"") -> Twin:
        """Add a Thing, or replace its description; raise ``DescriptionError``, without effect, on a conflict.

        Call ``check_room`` first, before the description is parsed.
        """
        known = self.twins.get(thing.device.id)
        if known is not None and known.thing.topic != thing.topic:
            raise DescriptionError(Code.TOPIC_TAKEN, "This device has another description already")
        # Anyone may publish a description: it must not be able to take over the values or commands of another device.
        if any(self._owners.get(topic, thing.device.id) != thing.device.id for topic in thing.topics):
            raise DescriptionError(Code.TOPIC_TAKEN, "The description claims a topic of another device")
        twin = with_description(known, thing)
        if known is not None:
            self.remove(known.id)
        self.twins[twin.id] = twin
        self.routes |= _routes(thing)
        self._owners |= dict.fromkeys(thing.topics, twin.id)
        self._topics[thing.topic] = twin.id
        # A hash recognises a repeat as well as the text, of which there may be 8 MB.
        self._descriptions[thing.topic] = _fingerprint(description)
        self._bytes += len(description)
        return twin

    def remove(self, device: str) -> None:
        """Remove a device and release its topics."""
        twin = self.twins.pop(device)
        for topic in twin.thing.topics:
            self.routes.pop(topic, None)
            del self._owners[topic]
        del self._topics[twin.thing.topic]
        self._bytes -= self._descriptions.pop(twin.thing.topic)[0]


def _fingerprint(description: bytes) -> tuple[int, bytes]:
    return len(description), sha256(description).digest()


def _routes(thing: Thing) -> Mapping[str, Route]:
    device = thing.device.id
    booleans = {each.name for each in thing.device.properties if each.kind is PropertyKind.BOOLEAN}
    routes = {
        topic: Route(role=Role.PROPERTY, device=device, name=name, is_boolean=name in booleans)
        for topic, name in thing.reads.items()
    }
    routes |= {topic: Route(role=Role.EVENT, device=device, name=name) for topic, name in thing.events.items()}
    if thing.availability is not None:
        routes[thing.availability] = Route(role=Role.AVAILABILITY, device=device)
    return routes
