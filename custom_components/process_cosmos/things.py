"""What the gateway last said of its devices; knows nothing of Home Assistant."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from .contract.devices import (
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
from .recent import RecentKeys


@dataclass(slots=True, kw_only=True)
class Thing:
    """A device as it is now. ``newest``: by property, the key of the newest value heard of (None: it had none)."""

    device: Device
    online: bool | None
    properties: Mapping[str, Property]
    values: dict[str, Value | None]
    newest: dict[str, str | None] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Touched:
    """What a message changed, for whoever shows it. ``property`` and ``event`` None: all of the device."""

    device: str
    property: str | None = None
    event: EventHappened | None = None


@dataclass(slots=True)
class Things:
    """All devices, by id; and ``sequence``, the number of the newest change heard of (None: none yet)."""

    sequence: int | None = None
    by_id: dict[str, Thing] = field(default_factory=dict)
    _recent: RecentKeys = field(default_factory=RecentKeys)

    def take_all(self, snapshot: Snapshot) -> Iterable[str]:
        """Hold exactly what the snapshot has; return the ids of the devices that are gone."""
        self.sequence = snapshot.sequence
        gone = self.by_id.keys() - {device.id for device in snapshot.devices}
        self.by_id = {device.id: self._described(device) for device in snapshot.devices}
        return gone

    def take(
        self, change: DeviceChanged | DeviceRemoved | ValueChanged | AvailabilityChanged | EventHappened, now: float
    ) -> Touched | None:
        """Hold one change, heard of at ``now`` (monotonic seconds); return None if it changes nothing here."""
        self.sequence = change.sequence
        match change:
            case DeviceChanged(device=device):
                self.by_id[device.id] = self._described(device)
                return Touched(device=device.id)
            case DeviceRemoved(device=device_id):
                return Touched(device=device_id) if self.by_id.pop(device_id, None) else None
            case _:
                thing = self.by_id.get(change.device)
                return self._touch(thing, change, now) if thing else None

    def _touch(
        self, thing: Thing, change: ValueChanged | AvailabilityChanged | EventHappened, now: float
    ) -> Touched | None:
        match change:
            case AvailabilityChanged(online=online):
                thing.online = online
                return Touched(device=change.device)
            case EventHappened():
                return None if self._repeated(change, now) else Touched(device=change.device, event=change)
            case ValueChanged(property=name, value=value) if _is_of(thing.properties.get(name), value):
                if self._repeated(change, now) and (
                    thing.newest.get(name) != change.key or thing.values[name] == value
                ):
                    return None
                thing.newest[name] = change.key
                thing.values[name] = value
                return Touched(device=change.device, property=name)
        return None

    def _described(self, device: Device) -> Thing:
        """Hold ``device`` as described now; which value was the newest outlives descriptions and snapshots."""
        known = self.by_id.get(device.id)
        return Thing(
            device=device,
            online=device.online,
            properties={item.name: item for item in device.properties},
            values={item.name: item.value if _is_of(item, item.value) else None for item in device.properties},
            newest=known.newest if known else {},
        )

    def _repeated(self, change: ValueChanged | EventHappened, now: float) -> bool:
        """Whether the broker gave out again what was already heard, because the gateway died before it acknowledged."""
        return change.key is not None and self._recent.remember(change.key, now) and change.redelivered


_TYPES: Mapping[PropertyKind, frozenset[type[Value]]] = {
    PropertyKind.BOOLEAN: frozenset({bool}),
    PropertyKind.NUMBER: frozenset({int, float}),
    PropertyKind.TEXT: frozenset({str}),
}


def _is_of(item: Property | None, value: Value | None) -> bool:
    """Whether ``value`` is one the described property can have."""
    return item is not None and type(value) in _TYPES[item.kind]
