"""Full garbage collections, which stop all of Home Assistant, and the option that makes them shorter.

A full collection of CPython walks every object of the process: 0.25 to 0.9 s about every 10 s at 500 state writes a
second, in a Home Assistant of usual size. ``gc.freeze`` leaves out of the walk what exists when it is called.
"""

import gc
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from time import monotonic
from typing import Any

from homeassistant.const import EVENT_HOMEASSISTANT_FINAL_WRITE
from homeassistant.core import CALLBACK_TYPE, HassJob, HomeAssistant, callback
from homeassistant.helpers.event import async_call_later
from homeassistant.helpers.start import async_at_started
from homeassistant.util.hass_dict import HassKey

from custom_components.process_cosmos.const import CONF_STEADY, DOMAIN, LOGGER

FREEZE_AFTER = 20.0
"""Seconds after the start of Home Assistant: what the start leaves behind is collected before it would be kept."""

_FULL = 2
"""The generation that a full collection collects."""

_REMEMBERED = 16
"""Number of newest collections that are kept: a reaction of 10 s overlaps a few of them."""


@dataclass(slots=True)
class FullCollections:
    """How long full collections of the process take.

    ``without_freeze``, ``with_freeze``: seconds of the newest one before and after the freeze; None: there was none.
    ``frozen``: whether this integration has frozen the objects that existed after the start.
    """

    frozen: bool = False
    without_freeze: float | None = None
    with_freeze: float | None = None
    _begun: float = 0.0
    _newest: deque[tuple[float, float]] = field(default_factory=lambda: deque(maxlen=_REMEMBERED))
    """Begin and end, in monotonic seconds."""

    def measure(self, phase: str, info: Mapping[str, Any]) -> None:
        """Measure a collection; called by the interpreter at its ``start`` and its ``stop``."""
        if info["generation"] != _FULL:
            return
        if phase == "start":
            self._begun = monotonic()
            return
        ended = monotonic()
        self._newest.append((self._begun, ended))
        if self.frozen:
            self.with_freeze = ended - self._begun
        else:
            self.without_freeze = ended - self._begun

    def seconds_between(self, begin: float, end: float) -> float:
        """Return how much of the time from ``begin`` to ``end`` (monotonic) full collections took."""
        return sum(max(0.0, min(end, ended) - max(begin, begun)) for begun, ended in self._newest)

    @callback
    def freeze(self) -> None:
        """Freeze what exists, after a full collection; the next one by itself shows the effect."""
        # Before the freeze, because what is garbage now would otherwise be kept for ever.
        gc.collect()
        gc.freeze()
        self.frozen = True
        LOGGER.info("Steady reaction times are on; a full garbage collection took %.3f s before", self.without_freeze)

    @callback
    def unfreeze(self) -> None:
        """Let full collections walk everything again."""
        gc.unfreeze()
        self.frozen = False


FULL_COLLECTIONS: HassKey[FullCollections] = HassKey(f"{DOMAIN}_full_collections")


@callback
def async_measure(hass: HomeAssistant) -> None:
    """Measure full collections until Home Assistant stops; once for the process."""
    collections = hass.data[FULL_COLLECTIONS] = FullCollections()
    gc.callbacks.append(collections.measure)
    hass.bus.async_listen_once(EVENT_HOMEASSISTANT_FINAL_WRITE, lambda _: gc.callbacks.remove(collections.measure))


@callback
def async_apply_option(hass: HomeAssistant) -> CALLBACK_TYPE:
    """Freeze 20 s after the start if an entry asks for it, unfreeze if none does; return a function that cancels."""
    collections = hass.data[FULL_COLLECTIONS]
    wanted = any(entry.options.get(CONF_STEADY) for entry in hass.config_entries.async_entries(DOMAIN))
    cancel: list[CALLBACK_TYPE] = []

    @callback
    def freeze(_: datetime) -> None:
        if not collections.frozen:
            collections.freeze()

    @callback
    def wait(hass: HomeAssistant) -> None:
        job = HassJob(freeze, "process_cosmos steady reaction times", cancel_on_shutdown=True)
        cancel.append(async_call_later(hass, FREEZE_AFTER, job))

    if collections.frozen and not wanted:
        collections.unfreeze()
    elif wanted and not collections.frozen:
        cancel.append(async_at_started(hass, wait))

    def stop() -> None:
        for each in cancel:
            each()

    return stop
