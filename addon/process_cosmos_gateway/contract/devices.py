"""Messages about devices: descriptions, values, device events, and the writes that go down to them."""

from dataclasses import dataclass
from enum import StrEnum
from typing import ClassVar

from .identifiers import Ulid

type Value = bool | int | float | str


class PropertyKind(StrEnum):
    """What a property's values are."""

    BOOLEAN = "boolean"
    NUMBER = "number"
    TEXT = "text"


class Hint(StrEnum):
    """What a property means, where the Thing Description says so by ``@type``, unit or title."""

    MOISTURE = "moisture"
    VALVE = "valve"
    TEMPERATURE = "temperature"
    HUMIDITY = "humidity"
    BATTERY = "battery"
    NONE = "none"


@dataclass(frozen=True, slots=True, kw_only=True)
class Property:
    """One property of a Thing. ``unit`` as Home Assistant spells it; ``value`` None until one was heard.

    ``integer``: a number of which only whole ones can be written. ``suggested_hint``: what its name suggests, where the
    name leaves open what true means (``valveClosed``): then it cannot be written until its description says so.
    """

    name: str
    title: str
    kind: PropertyKind
    hint: Hint = Hint.NONE
    writable: bool = False
    unit: str | None = None
    minimum: float | None = None
    maximum: float | None = None
    value: Value | None = None
    integer: bool = False
    suggested_hint: Hint = Hint.NONE


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceEventDescription:
    """One kind of device event a Thing can emit."""

    name: str
    title: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Device:
    """A Thing as Home Assistant shows it. ``online`` None: nobody can say (no last will, no heartbeat)."""

    id: str
    title: str
    properties: tuple[Property, ...] = ()
    events: tuple[DeviceEventDescription, ...] = ()
    online: bool | None = None
    manufacturer: str | None = None
    model: str | None = None
    firmware: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Subscribe:
    """Home Assistant → gateway: send devices and status from now on.

    What the same ``run`` missed since change number ``after``, at most 60 s old, comes first, in order; then one
    ``Snapshot``, then, if ``report_missed``, ``MissedChangesReport``, then changes as they happen. ``confirmed``: the newest number
    this run has confirmed (``Receipt.sequence``), 0 if none.
    """

    type: ClassVar[str] = "subscribe"
    id: str
    run: Ulid
    after: int | None = None
    report_missed: bool = False
    confirmed: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """Gateway → Home Assistant: all devices as they are. ``sequence``: the number of the newest change in it.

    ``more``: it is a page, as a frame does not hold all devices; the next frame but receipts is the next page.
    """

    type: ClassVar[str] = "snapshot"
    sequence: int
    devices: tuple[Device, ...]
    more: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class MissedChange:
    """A ``property`` that is no number, or a device ``event``; it changed, or happened, ``age`` seconds ago."""

    device: str
    age: float
    property: str | None = None
    event: str | None = None
    value: Value | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class MissedChangesReport:
    """Gateway → Home Assistant: what changed and no Home Assistant has confirmed, for people to read.

    It must fire no automation: it is over. Numbers are left out, and what came as changes before the snapshot.
    ``since``: seconds since Home Assistant last confirmed, or the gateway began. ``more``: older changes not listed.
    """

    type: ClassVar[str] = "missed_changes"
    since: float
    changes: tuple[MissedChange, ...] = ()
    more: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceChanged:
    """Gateway → Home Assistant: a device is new, or its description changed."""

    type: ClassVar[str] = "device_changed"
    sequence: int
    device: Device


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceRemoved:
    """Gateway → Home Assistant: a device's description was withdrawn."""

    type: ClassVar[str] = "device_removed"
    sequence: int
    device: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ValueChanged:
    """Gateway → Home Assistant: a property has a value.

    ``key``: the same when the broker gives out the same MQTT message again, None without one. ``redelivered``: it was
    given out before; whoever has seen its key drops it. ``age``: seconds.
    """

    type: ClassVar[str] = "value_changed"
    sequence: int
    device: str
    property: str
    value: Value
    age: float
    key: str | None = None
    redelivered: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class AvailabilityChanged:
    """Gateway → Home Assistant: a device came or went."""

    type: ClassVar[str] = "availability_changed"
    sequence: int
    device: str
    online: bool | None


@dataclass(frozen=True, slots=True, kw_only=True)
class EventHappened:
    """Gateway → Home Assistant: a device event. ``key`` and ``redelivered`` as in ``ValueChanged``.

    ``possible_repeat``: it may have been sent before, nobody can know; an event twice is better than an event lost.
    """

    type: ClassVar[str] = "event_happened"
    sequence: int
    device: str
    event: str
    age: float
    value: Value | None = None
    key: str | None = None
    redelivered: bool = False
    possible_repeat: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class WriteProperty:
    """Home Assistant → gateway: let a Thing take a value.

    Done when published and on disk; ``broker_away`` at once if not. Repeated until reported = desired; over after
    ``expires_in`` seconds; a newer write replaces an older one.
    """

    type: ClassVar[str] = "write_property"
    id: str
    device: str
    property: str
    value: Value
    expires_in: float = 30.0
