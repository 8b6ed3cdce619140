"""The last known state of a Thing, and how messages change it: functions of values."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import isfinite

from process_cosmos_gateway.contract.devices import Device, PropertyKind, Value

from .description import Thing
from .values import MAX_TEXT_BYTES, Reading, is_too_long


@dataclass(frozen=True, slots=True, kw_only=True)
class Twin:
    """The last known state of a Thing. ``online`` None: unknown. ``latest``: the newest reading of each property."""

    thing: Thing
    online: bool | None = None
    latest: Mapping[str, Reading] = field(default_factory=dict)

    @property
    def id(self) -> str:
        """The id of the device."""
        return self.thing.device.id

    def subscribed_topics(self) -> tuple[list[str], list[str]]:
        """Return the topics of values and device events, and separately that of the availability."""
        thing = self.thing
        return [*thing.reads, *thing.events], [] if thing.availability is None else [thing.availability]


def as_device(twin: Twin, *, reachable: bool) -> Device:
    """Return the device for Home Assistant; not ``reachable``: the broker is away, so it is offline."""
    properties = tuple(
        replace(each, value=twin.latest[each.name].value if each.name in twin.latest else None)
        for each in twin.thing.device.properties
    )
    return replace(twin.thing.device, properties=properties, online=twin.online if reachable else False)


def polarity_changes(twin: Twin, thing: Thing) -> frozenset[str]:
    """Return the properties whose values mean the opposite under the new description."""
    return twin.thing.inverted ^ thing.inverted


def inverted(readings: Sequence[Reading]) -> tuple[Reading, ...]:
    """Return boolean readings with inverted values."""
    return tuple(replace(reading, value=not reading.value) for reading in readings)


def with_description(twin: Twin | None, thing: Thing) -> Twin:
    """Return the twin for a new description; properties of the same name, type and polarity keep their values."""
    if twin is None:
        return Twin(thing=thing)
    kinds = {each.name: each.kind for each in twin.thing.device.properties}
    same_kind = {each.name for each in thing.device.properties if kinds.get(each.name) is each.kind}
    kept = same_kind - polarity_changes(twin, thing)
    return Twin(
        thing=thing,
        online=twin.online if thing.availability is not None else None,
        latest={name: reading for name, reading in twin.latest.items() if name in kept},
    )


def newest_reading(held: Reading | None, readings: Sequence[Reading], received: float) -> Reading:
    """Return the newest of ``held`` and ``readings``; a time in the future counts as ``received``."""
    # With its own time, a reading of a clock that is ahead would hide all later values until then.
    capped = [replace(reading, time=min(reading.time, received)) for reading in readings]
    best = max(capped, key=lambda reading: reading.time)
    # A held time in the future means that the gateway's clock was set back; the value must not freeze until then.
    if held is not None and held.time > best.time and held.time <= received:
        return held
    return best


def is_transition(kind: PropertyKind, before: Reading | None, after: Reading) -> bool:
    """Return whether to send an event to destinations: a boolean has changed."""
    return kind is PropertyKind.BOOLEAN and (before is None or before.value != after.value)


def write_problem(device: Device, name: str, value: Value) -> str | None:
    """Return why ``value`` cannot be written to a property, as a sentence; None if it can."""
    target = next(each for each in device.properties if each.name == name)
    number = isinstance(value, int | float) and not isinstance(value, bool) and isfinite(value)
    fits = {
        PropertyKind.BOOLEAN: isinstance(value, bool),
        PropertyKind.NUMBER: number,
        PropertyKind.TEXT: isinstance(value, str),
    }[target.kind]
    if not fits:
        return f"{target.title} must be a {target.kind}"
    if isinstance(value, str) and is_too_long(value):
        return f"{target.title} must be a text of at most {MAX_TEXT_BYTES} bytes"
    if number and target.integer and not float(value).is_integer():
        return f"{target.title} must be a whole number"
    if number and target.minimum is not None and float(value) < target.minimum:
        return f"{target.title} must be at least {target.minimum:g}"
    if number and target.maximum is not None and float(value) > target.maximum:
        return f"{target.title} must be at most {target.maximum:g}"
    return None
