"""What the ledger saw, as plain records in the order it saw them."""

from dataclasses import dataclass, field

type Scalar = bool | int | float | str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Leak:
    """A moisture sensor turned wet, as the broker or Home Assistant's state machine said."""

    sensor: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """A command reached a valve: over the broker, or as the effect of a valve of Home Assistant's own.

    ``at``: when, in seconds.
    """

    valve: str
    closes: bool
    at: float = field(default=0.0, compare=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Opened:
    """The integration said that it holds an alert: its trigger fired, or the action returned it."""

    alert: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Ring:
    """A phone rang. ``key``: the alert's tag with its ring; rounds repeat it by the clock. ``at``: in seconds."""

    phone: str
    alert: str
    key: str
    at: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class ActionRun:
    """An effect of an answer's actions, e.g. a counter went up by one."""

    effect: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Arrival:
    """An event reached a destination, repeats included.

    ``device`` is (device, affordance) for a device's events; ``count``: calls of an alert.
    ``marked``: the event says that it may be a repeat. ``taken_as_new``: what the destination itself says of it;
    None where the ledger is the destination, and takes what it never saw.
    """

    destination: str
    id: str
    type: str
    subject: str
    source: str = ""
    device: tuple[str, str] | None = None
    value: Scalar = None
    count: int | None = None
    taken_as_new: bool | None = None
    marked: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceEvent:
    """A device's transition or event that the gateway acknowledged to the broker."""

    device: tuple[str, str]
    value: Scalar


type Record = Leak | Command | Opened | Ring | ActionRun | Arrival | DeviceEvent


@dataclass(slots=True, kw_only=True)
class Guard:
    """What one made automation promises: when ``sensor`` turns wet, ``valve`` is told to close once."""

    sensor: str
    valve: str


@dataclass(slots=True, kw_only=True)
class Expected:
    """What the play set up, so that too few effects are seen as well as too many.

    ``effects``: how often each answer's effect must happen. ``other_alerts``: those that no leak opened.
    ``calls``: alerts that were called more than once, and how often.
    """

    phones: tuple[str, ...] = ()
    destinations: tuple[str, ...] = ()
    guards: tuple[Guard, ...] = ()
    effects: dict[str, int] = field(default_factory=dict)
    other_alerts: int = 0
    calls: dict[str, int] = field(default_factory=dict)
