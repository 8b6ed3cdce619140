"""Coalescing of state writes: the first change of a number is written at once, later ones at most every 5 s."""

from collections.abc import Callable
from datetime import datetime
from time import monotonic

from homeassistant.core import CALLBACK_TYPE, HassJob, HomeAssistant, callback
from homeassistant.helpers.event import async_call_later

WRITE_EVERY = 5.0
"""Seconds between two state writes of a number that nothing refers to; decision 34 has the measurements."""


class CoalescedWrites:
    """Writes the state of one entity: at once, or the newest value when 5 s have passed since the last one.

    ``held``: those of the same site whose newest value waits.
    """

    def __init__(
        self,
        hass: HomeAssistant,
        held: set[CoalescedWrites],
        write_fn: Callable[[], None],
        is_at_once_fn: Callable[[], bool],
    ) -> None:
        """Write by ``write_fn``; while ``is_at_once_fn`` returns true, hold nothing back."""
        self._hass = hass
        self._held = held
        self._write_fn = write_fn
        self._is_at_once_fn = is_at_once_fn
        self._due = 0.0
        self._cancel_timer: CALLBACK_TYPE | None = None

    @callback
    def value_changed(self) -> None:
        """Write the new value now or when it is due."""
        wait = self._due - monotonic()
        if wait <= 0 or self._is_at_once_fn():
            self._write_value()
        elif self not in self._held:
            self._held.add(self)
            # Cancelled at a shutdown: after a restart the gateway reports all newest values.
            job = HassJob(self._timer_fired, "process_cosmos coalesced write", cancel_on_shutdown=True)
            self._cancel_timer = async_call_later(self._hass, wait, job)

    @callback
    def release(self) -> None:
        """Write a value that waits, if it need not wait any more."""
        if self in self._held and self._is_at_once_fn():
            self._write_value()

    @callback
    def write(self) -> None:
        """Write the state now, for another reason than a new value."""
        self.stop()
        self._write_fn()

    @callback
    def stop(self) -> None:
        """Drop a write that is not due yet."""
        if self._cancel_timer:
            self._cancel_timer()
            self._cancel_timer = None
        self._held.discard(self)

    @callback
    def _timer_fired(self, _: datetime) -> None:
        self._write_value()

    def _write_value(self) -> None:
        self._due = monotonic() + WRITE_EVERY
        self.write()
