"""Coalescing of state writes: the first change of a number is written at once, later ones at most every 5 s."""

import time
from collections.abc import Callable
from datetime import datetime

from homeassistant.core import CALLBACK_TYPE, HassJob, HomeAssistant, callback
from homeassistant.helpers.event import async_call_later

WRITE_EVERY = 5.0
"""Seconds between two state writes of a number that nothing refers to (measured: fewer writes shorten the longest
reactions, docs/reactions.md)."""


class CoalescedWrites:
    """Writes the state of one entity: at once, or the newest value when 5 s have passed since the last write."""

    def __init__(self, hass: HomeAssistant, write_fn: Callable[[], None], is_at_once_fn: Callable[[], bool]) -> None:
        """Write by ``write_fn``; while ``is_at_once_fn`` returns true, hold nothing back."""
        self._hass = hass
        self._write_fn = write_fn
        self._is_at_once_fn = is_at_once_fn
        self._due = 0.0
        self._cancel_timer: CALLBACK_TYPE | None = None

    @callback
    def value_changed(self) -> None:
        """Write the new value now or when it is due."""
        wait = self._due - time.monotonic()
        if wait <= 0 or self._is_at_once_fn():
            self.write()
        elif self._cancel_timer is None:
            self._cancel_timer = async_call_later(
                self._hass, wait, HassJob(self._timer_fired, "process_cosmos coalesced write", cancel_on_shutdown=True)
            )

    @callback
    def write(self) -> None:
        """Write the state now, whatever is due."""
        self.stop()
        self._due = time.monotonic() + WRITE_EVERY
        self._write_fn()

    @callback
    def stop(self) -> None:
        """Drop a write that is not due yet; the entity is removed, or has just been written."""
        if self._cancel_timer:
            self._cancel_timer()
            self._cancel_timer = None

    @callback
    def _timer_fired(self, _: datetime) -> None:
        self._cancel_timer = None
        self.write()
