"""Messages about devices: descriptions, values, device events, and writes to properties."""

from dataclasses import dataclass
from enum import StrEnum
from typing import ClassVar

from .codec import request_id
from .identifiers import Ulid

type Value = bool | int | float | str


class PropertyKind(StrEnum):
    """Data type of a property's values. Unknown: text, which is shown and never written."""

    BOOLEAN = "boolean"
    NUMBER = "number"
    TEXT = "text"
    UNKNOWN = TEXT


class Hint(StrEnum):
    """Meaning of a property, as given by ``@type``, unit or title in the Thing Description. Unknown: none."""

    MOISTURE = "moisture"
    VALVE = "valve"
    TEMPERATURE = "temperature"
    HUMIDITY = "humidity"
    BATTERY = "battery"
    NONE = "none"
    UNKNOWN = NONE


@dataclass(frozen=True, slots=True, kw_only=True)
class Property:
    """One property of a Thing. ``unit`` in Home Assistant's spelling; ``value`` None until a value was received.

    ``integer``: only whole numbers can be written. ``suggested_hint``: the meaning suggested by the property's name if
    the name does not define what true means (``valveClosed``); such a property is not writable until its description
    defines it.
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
    """One kind of device event that a Thing can emit."""

    name: str
    title: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Device:
    """Thing as Home Assistant shows it. ``online`` None: unknown, without a last will or a heartbeat."""

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

    The gateway first replays, in order, the changes that the same ``run`` missed after change number ``after``, at most
    60 s old; then sends one ``Snapshot``, then, if ``report_missed``, a ``MissedChangesReport``, then changes as they
    happen. ``confirmed``: the newest number this run has confirmed (``Heartbeat.sequence``), 0 if none.
    """

    type: ClassVar[str] = "subscribe"
    id: str = request_id()
    run: Ulid
    # Numbers begin at the wall time of the gateway's start, so that they increase across its restarts too.
    after: int | None = None
    report_missed: bool = False
    # Apart from `after`, because a change that was received may not be confirmed yet.
    confirmed: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """Gateway → Home Assistant: current state of all devices. ``sequence``: number of the newest change it includes.

    ``more``: another page follows because one frame is too small; only receipts may come before it.
    """

    type: ClassVar[str] = "snapshot"
    sequence: int
    devices: tuple[Device, ...]
    more: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class MissedChange:
    """Change of a non-numeric ``property``, or a device ``event``, ``age`` seconds ago."""

    device: str
    age: float
    property: str | None = None
    event: str | None = None
    value: Value | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class MissedChangesReport:
    """Gateway → Home Assistant: changes that no Home Assistant has confirmed, for people to read.

    They are in the past and must not trigger automations. Numeric values are omitted, as are changes replayed before
    the snapshot. ``since``: seconds since Home Assistant's last confirmation, or since the gateway's start. ``more``:
    number of older changes not listed.
    """

    type: ClassVar[str] = "missed_changes"
    since: float
    changes: tuple[MissedChange, ...] = ()
    more: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceChanged:
    """Gateway → Home Assistant: a device was added, or its description changed."""

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
    """Gateway → Home Assistant: a property reported a value.

    ``key``: equal in every delivery of the same MQTT message, None without one. ``redelivered``: the broker may have
    delivered the message before; a receiver that has already seen its key drops it. ``age`` in seconds. ``received``,
    ``sent``: when the gateway handled and sent it, in seconds on its monotonic clock, whose zero is arbitrary.
    """

    type: ClassVar[str] = "value_changed"
    sequence: int
    device: str
    property: str
    value: Value
    age: float
    key: str | None = None
    redelivered: bool = False
    received: float | None = None
    sent: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class AvailabilityChanged:
    """Gateway → Home Assistant: a device went online or offline."""

    type: ClassVar[str] = "availability_changed"
    sequence: int
    device: str
    online: bool | None


@dataclass(frozen=True, slots=True, kw_only=True)
class EventHappened:
    """Gateway → Home Assistant: a device event. ``key``, ``redelivered`` and times as in ``ValueChanged``.

    ``possible_repeat``: it may have been sent before, which cannot be determined; a repeated event is better than a
    lost one.
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
    received: float | None = None
    sent: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class WriteProperty:
    """Home Assistant → gateway: set a property of a Thing.

    Confirmed once published and stored; refused at once with ``broker_away`` without a broker. Repeated until the
    reported value equals the desired one, for at most ``expires_in`` seconds; a newer write replaces an older one.
    """

    type: ClassVar[str] = "write_property"
    id: str = request_id()
    device: str
    property: str
    value: Value
    expires_in: float = 30.0
