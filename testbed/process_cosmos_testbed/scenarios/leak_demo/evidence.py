"""What was observed, as plain records in the order of observation, and what had to happen."""

from dataclasses import dataclass, field

from process_cosmos_gateway.contract.devices import Value


@dataclass(frozen=True, slots=True, kw_only=True)
class Leak:
    """A moisture sensor turned wet: a device, or a sensor of Home Assistant's own."""

    sensor: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ValveCommand:
    """A command reached a valve: over the broker, or as the effect of a valve of Home Assistant's own.

    ``at``: monotonic time.
    """

    valve: str
    closes: bool
    at: float = field(default=0.0, compare=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class AlertOpened:
    """The integration reported an open alert: its trigger fired."""

    alert: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Notified:
    """A phone was notified. ``key``: alert and revision, which the next round repeats; ``at``: monotonic time."""

    phone: str
    alert: str
    key: str
    at: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class ActionRun:
    """An effect of an answer's actions, e.g. a counter was incremented."""

    effect: str


@dataclass(frozen=True, slots=True, kw_only=True)
class EventArrival:
    """An event reached a destination, repeats included.

    ``device``: (device, affordance) of a device's event. ``count``: the calls of an alert. ``marked``: the event says
    that it may be a repeat. ``fresh``: the destination accepted it as new.
    """

    destination: str
    id: str
    type: str
    subject: str
    device: tuple[str, str] | None = None
    value: Value | None = None
    count: int | None = None
    fresh: bool = True
    marked: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceEvent:
    """A transition or event of a device that the broker acknowledged to it."""

    device: tuple[str, str]
    value: Value


type Record = Leak | ValveCommand | AlertOpened | Notified | ActionRun | EventArrival | DeviceEvent


@dataclass(slots=True, kw_only=True)
class Expected:
    """What the scenario has set up, so that too few effects are noticed as well as too many.

    ``guards``: by sensor, the valve that an automation closes once for each leak. ``effects``: how often each answer's
    effect must happen. ``other_alerts``: alerts that no leak opened. ``calls``: alerts that were called more than once,
    and how often.
    """

    phones: tuple[str, ...] = ()
    destinations: tuple[str, ...] = ()
    guards: dict[str, str] = field(default_factory=dict)
    effects: dict[str, int] = field(default_factory=dict)
    other_alerts: int = 0
    calls: dict[str, int] = field(default_factory=dict)
