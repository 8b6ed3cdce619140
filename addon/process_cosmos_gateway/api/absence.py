"""What happens while no Home Assistant listens, for people to read afterwards."""

from collections import deque
from collections.abc import Collection, Iterable

from process_cosmos_gateway.contract.devices import Device, EventHappened, Missed, Value, ValueChanged, WhileAway

MOST_TOLD = 200
"""Changes kept, the newest; the others are counted."""

_MOST_TEXT = 255
_HEARD_AFTER = 5.0
"""Seconds a session must have lasted for what it was told to count as heard; else the next one is told again."""


class Absence:
    """Remembers changes of what is no number, and device events, until Home Assistant was told of them."""

    def __init__(self, devices: Iterable[Device], now: float) -> None:
        """Begin with nobody there, and the values ``devices`` have. Times are monotonic seconds."""
        self._values: dict[tuple[str, str], Value | None] = {
            (device.id, item.name): item.value for device in devices for item in device.properties
        }
        self._since = now
        self._present_from: float | None = None
        self._changes: deque[tuple[float, int, Missed]] = deque(maxlen=MOST_TOLD)
        self._number = 0

    def note(self, change: ValueChanged | EventHappened, now: float) -> None:
        """Hear of a change; one that repeats the value is none."""
        if isinstance(change, ValueChanged):
            place = change.device, change.property
            if not isinstance(change.value, bool | str) or self._values.get(place) == change.value:
                return
            self._values[place] = change.value
            missed = Missed(
                device=change.device, age=change.age, property=change.property, value=_shortened(change.value)
            )
        else:
            missed = Missed(device=change.device, age=change.age, event=change.event, value=_shortened(change.value))
        if self._present_from is None:
            self._number += 1
            self._changes.append((now, change.sequence, missed))

    def end(self, now: float, replayed: Collection[int]) -> WhileAway:
        """Say what happened, but for the changes with the numbers ``replayed``: Home Assistant is there."""
        self._present_from = now
        told = [(at, missed) for at, number, missed in self._changes if number not in replayed]
        return WhileAway(
            since=now - self._since,
            changes=tuple(
                Missed(
                    device=missed.device,
                    age=missed.age + now - at,
                    property=missed.property,
                    event=missed.event,
                    value=missed.value,
                )
                for at, missed in told
            ),
            more=self._number - len(self._changes),
        )

    def begin(self, now: float) -> None:
        """Home Assistant is gone."""
        if self._present_from is not None and now - self._present_from >= _HEARD_AFTER:
            self._changes.clear()
            self._number = 0
            self._since = now
        self._present_from = None


def _shortened(value: Value | None) -> Value | None:
    return value[:_MOST_TEXT] if isinstance(value, str) else value
