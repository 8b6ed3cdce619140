"""The state of the gateway's devices; independent of Home Assistant."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from custom_components.process_cosmos.contract.devices import (
    AvailabilityChanged,
    Device,
    DeviceChanged,
    DeviceRemoved,
    EventHappened,
    Property,
    PropertyKind,
    Snapshot,
    Value,
    ValueChanged,
)

KEEP_FOR = 600.0
"""Seconds that a key is remembered; MQTT message ids may be reused after that."""

MAX_KEYS = 65_535
"""Maximum number of keys: the number of MQTT message ids."""


@dataclass(slots=True, kw_only=True)
class DeviceState:
    """The current description, availability and values of a device."""

    device: Device
    online: bool | None
    properties: Mapping[str, Property]
    values: dict[str, Value | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceUpdate:
    """What a message changed. ``property`` and ``event`` both None: the whole device."""

    device: str
    property: str | None = None
    event: EventHappened | None = None


class RecentEvents:
    """A set of keys that expire after ten minutes."""

    def __init__(self) -> None:
        """Create an empty set."""
        self._seen: dict[str, float] = {}

    def remember(self, key: str, now: float) -> bool:
        """Store ``key`` as seen at ``now`` (monotonic seconds); return whether it was already known."""
        while self._seen:
            oldest = next(iter(self._seen))
            if len(self._seen) <= MAX_KEYS and self._seen[oldest] > now - KEEP_FOR:
                break
            del self._seen[oldest]
        # Removed and inserted again, which keeps the dictionary in order of time, as the loop above requires.
        known = self._seen.pop(key, None) is not None
        self._seen[key] = now
        return known


@dataclass(slots=True)
class DeviceStates:
    """All devices by id. ``sequence``: the number of the newest change received; None: none yet."""

    sequence: int | None = None
    by_id: dict[str, DeviceState] = field(default_factory=dict)
    _recent: RecentEvents = field(default_factory=RecentEvents)

    def apply_snapshot(self, snapshot: Snapshot) -> Iterable[str]:
        """Replace all devices with those of the snapshot; return the ids of removed devices."""
        self.sequence = snapshot.sequence
        gone = self.by_id.keys() - {device.id for device in snapshot.devices}
        self.by_id = {device.id: self._from_description(device) for device in snapshot.devices}
        return gone

    def apply_change(
        self, change: DeviceChanged | DeviceRemoved | ValueChanged | AvailabilityChanged | EventHappened, now: float
    ) -> DeviceUpdate | None:
        """Apply one change received at ``now`` (monotonic seconds); return None if it has no effect."""
        # Also for a change without effect: it was processed, and the gateway must not report it as missed.
        self.sequence = change.sequence
        match change:
            case DeviceChanged(device=device):
                self.by_id[device.id] = self._from_description(device)
                return DeviceUpdate(device=device.id)
            case DeviceRemoved(device=device_id):
                return DeviceUpdate(device=device_id) if self.by_id.pop(device_id, None) else None
            case _:
                device_state = self.by_id.get(change.device)
                return self._apply_to_device(device_state, change, now) if device_state else None

    def _apply_to_device(
        self, device_state: DeviceState, change: ValueChanged | AvailabilityChanged | EventHappened, now: float
    ) -> DeviceUpdate | None:
        match change:
            case AvailabilityChanged(online=online):
                device_state.online = online
                return DeviceUpdate(device=change.device)
            case EventHappened():
                return DeviceUpdate(device=change.device, event=self._with_repeat_mark(change, now))
            case ValueChanged(property=name, value=value) if _has_type_of(device_state.properties.get(name), value):
                if device_state.values[name] == value:
                    return None
                device_state.values[name] = value
                return DeviceUpdate(device=change.device, property=name)
        return None

    @staticmethod
    def _from_description(device: Device) -> DeviceState:
        return DeviceState(
            device=device,
            online=device.online,
            properties={item.name: item for item in device.properties},
            values={item.name: item.value if _has_type_of(item, item.value) else None for item in device.properties},
        )

    def _with_repeat_mark(self, event: EventHappened, now: float) -> EventHappened:
        """Mark a redelivered event with a known key as a possible repeat: a gateway killed before a commit forgets it.

        The event is still shown, because a broker may reuse a message id for another message with the same content.
        """
        known = event.key is not None and self._recent.remember(event.key, now)
        return replace(event, possible_repeat=True) if known and event.redelivered else event


_TYPES: Mapping[PropertyKind, frozenset[type[Value]]] = {
    PropertyKind.BOOLEAN: frozenset({bool}),
    PropertyKind.NUMBER: frozenset({int, float}),
    PropertyKind.TEXT: frozenset({str}),
}


def _has_type_of(item: Property | None, value: Value | None) -> bool:
    """Return whether ``value`` has the type of the described property."""
    # Not ``isinstance``, for which True is an int.
    return item is not None and type(value) in _TYPES[item.kind]
