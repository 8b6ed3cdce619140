"""Coalescing of state writes: the first change of a number is written at once, later ones at most every 5 s."""

from collections.abc import Callable
from datetime import datetime
from time import monotonic

from homeassistant.core import CALLBACK_TYPE, HassJob, HomeAssistant, callback
from homeassistant.helpers.event import async_call_later

WRITE_EVERY = 5.0
"""Seconds between two state writes of a number that nothing refers to (measured: fewer writes shorten the longest
reactions, docs/reactions.md)."""


class HeldWrites:
    """The state writes of a site's numbers that are not due yet."""

    def __init__(self) -> None:
        """Begin without any."""
        self._held: dict[CoalescedWrites, CALLBACK_TYPE] = {}

    def __contains__(self, writes: CoalescedWrites) -> bool:
        """Return whether a write of this entity waits."""
        return writes in self._held

    @callback
    def hold(self, hass: HomeAssistant, writes: CoalescedWrites, seconds: float) -> None:
        """Write in ``seconds``."""

        def write(_: datetime) -> None:
            writes.write_value()

        job = HassJob(callback(write), "process_cosmos coalesced write", cancel_on_shutdown=True)
        self._held[writes] = async_call_later(hass, seconds, job)

    @callback
    def drop(self, writes: CoalescedWrites) -> None:
        """Forget the write of this entity: it is written now, or removed."""
        if cancel := self._held.pop(writes, None):
            cancel()

    @callback
    def release(self) -> None:
        """Write what may not be held any more."""
        for writes in [each for each in self._held if each.is_at_once_fn()]:
            writes.write_value()


class CoalescedWrites:
    """Writes the state of one entity: at once, or the newest value when 5 s have passed since the last one."""

    def __init__(
        self, hass: HomeAssistant, held: HeldWrites, write_fn: Callable[[], None], is_at_once_fn: Callable[[], bool]
    ) -> None:
        """Write by ``write_fn``; while ``is_at_once_fn`` returns true, hold nothing back."""
        self.is_at_once_fn = is_at_once_fn
        self._hass = hass
        self._held = held
        self._write_fn = write_fn
        self._due = 0.0

    @callback
    def value_changed(self) -> None:
        """Write the new value now or when it is due."""
        wait = self._due - monotonic()
        if wait <= 0 or self.is_at_once_fn():
            self.write_value()
        elif self not in self._held:
            self._held.hold(self._hass, self, wait)

    @callback
    def write_value(self) -> None:
        """Write the newest value now; the next one is due in 5 s."""
        self._due = monotonic() + WRITE_EVERY
        self.write()

    @callback
    def write(self) -> None:
        """Write the state now, for another reason than a new value."""
        self.stop()
        self._write_fn()

    @callback
    def stop(self) -> None:
        """Drop a write that is not due yet."""
        self._held.drop(self)
