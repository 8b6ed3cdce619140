"""Record of the changes that Home Assistant has not confirmed, reported to people afterwards."""

from collections import deque
from collections.abc import Collection, Iterable
from dataclasses import dataclass, replace

from process_cosmos_gateway.contract.devices import (
    Device,
    EventHappened,
    MissedChange,
    MissedChangesReport,
    Value,
    ValueChanged,
)

MOST_REPORTED = 200
"""Number of newest changes kept for the report; older ones are only counted."""

_MOST_TEXT = 255


@dataclass(frozen=True, slots=True, kw_only=True)
class _Unconfirmed:
    """Change to report; ``at``: monotonic seconds, ``number``: its number in the feed."""

    at: float
    number: int
    missed: MissedChange


class MissedChanges:
    """Record of non-numeric changes and device events, kept until Home Assistant confirms their numbers.

    A change written to a socket may never have been read: a broken link can go unnoticed for up to 30 s. So changes are
    kept whether or not a session is open.
    """

    def __init__(self, devices: Iterable[Device], now: float) -> None:
        """Start without a session, with the current values of ``devices``. Times are monotonic seconds."""
        self._values: dict[str, dict[str, Value | None]] = {
            device.id: {item.name: item.value for item in device.properties} for device in devices
        }
        self._confirmed_at = now
        self._changes: deque[_Unconfirmed] = deque()
        self._evicted = 0
        self._newest_evicted = 0

    def note(self, change: ValueChanged | EventHappened, now: float) -> None:
        """Keep a change, unless it is numeric or repeats the last value."""
        if isinstance(change, ValueChanged):
            values = self._values.setdefault(change.device, {})
            if not isinstance(change.value, bool | str) or values.get(change.property) == change.value:
                return
            values[change.property] = change.value
        if len(self._changes) == MOST_REPORTED:
            self._newest_evicted = self._changes.popleft().number
            self._evicted += 1
        missed = MissedChange(
            device=change.device,
            age=change.age,
            property=change.property if isinstance(change, ValueChanged) else None,
            event=change.event if isinstance(change, EventHappened) else None,
            value=_shortened(change.value),
        )
        self._changes.append(_Unconfirmed(at=now, number=change.sequence, missed=missed))

    def forget(self, device: str, but: Collection[str] = ()) -> None:
        """Forget the values of a removed device, except those of the properties in ``but``."""
        values = self._values.pop(device, {})
        if kept := {name: value for name, value in values.items() if name in but}:
            self._values[device] = kept

    def start_session(self, now: float, replayed: Collection[int], *, confirmed: int) -> MissedChangesReport:
        """Start a session; return the report of unconfirmed changes, without those whose numbers are in ``replayed``.

        ``confirmed``: the newest number confirmed before.
        """
        self._forget_until(confirmed)
        return MissedChangesReport(
            since=now - self._confirmed_at,
            changes=tuple(
                replace(each.missed, age=each.missed.age + now - each.at)
                for each in self._changes
                if each.number not in replayed
            ),
            more=self._evicted,
        )

    def confirm(self, number: int, now: float) -> None:
        """Forget the changes up to ``number``, which Home Assistant has processed or reported to people."""
        self._confirmed_at = now
        self._forget_until(number)

    def _forget_until(self, number: int) -> None:
        while self._changes and self._changes[0].number <= number:
            self._changes.popleft()
        # Of evicted changes only the newest number is known, so they count until that one is confirmed.
        if number >= self._newest_evicted:
            self._evicted = 0


def _shortened(value: Value | None) -> Value | None:
    return value[:_MOST_TEXT] if isinstance(value, str) else value
