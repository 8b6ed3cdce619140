"""The entities that automations, scripts and helpers refer to; the changes of these are never held back."""

import re
from collections.abc import Callable, Iterator
from typing import Any

from homeassistant.components.automation import DOMAIN as AUTOMATION
from homeassistant.components.script import DOMAIN as SCRIPT
from homeassistant.const import (
    ATTR_AREA_ID,
    ATTR_DEVICE_ID,
    ATTR_ENTITY_ID,
    ATTR_FLOOR_ID,
    ATTR_LABEL_ID,
    STATE_UNAVAILABLE,
)
from homeassistant.core import CALLBACK_TYPE, Event, EventStateChangedData, HomeAssistant, callback
from homeassistant.helpers.area_registry import EVENT_AREA_REGISTRY_UPDATED
from homeassistant.helpers.debounce import Debouncer
from homeassistant.helpers.device_registry import EVENT_DEVICE_REGISTRY_UPDATED
from homeassistant.helpers.entity_registry import EVENT_ENTITY_REGISTRY_UPDATED
from homeassistant.helpers.event import (
    _TRACK_STATE_CHANGE_DATA,
    TrackStates,
    async_track_state_change_filtered,
)
from homeassistant.helpers.target import TargetSelection, async_extract_referenced_entity_ids

from custom_components.process_cosmos.const import LOGGER

RENEW_SECONDS = 0.5
"""Time from a change to the renewal; changes meanwhile share it, because hundreds of devices may be added at once."""

_ENTITY_ID = re.compile(r"[a-z0-9_]+\.[a-z0-9_]+")
_REGISTRY_EVENTS = (EVENT_ENTITY_REGISTRY_UPDATED, EVENT_DEVICE_REGISTRY_UPDATED, EVENT_AREA_REGISTRY_UPDATED)


class References:
    """The entity ids that something refers to; ``entity_id in references`` asks for one.

    What waits for the changes of an entity (triggers, templates, helpers, groups) is asked of Home Assistant at each
    change. What only reads it (conditions, actions, templates in both) is a list, made of the configurations of all
    automations and scripts, and renewed when one of them or a registry changes.
    """

    def __init__(self, hass: HomeAssistant, on_renewed: Callable[[], None]) -> None:
        """Create an empty list; ``async_start`` fills it. ``on_renewed`` is called after each renewal."""
        self._hass = hass
        self._on_renewed = on_renewed
        self._read: frozenset[str] = frozenset()
        self._renewal = Debouncer(hass, LOGGER, cooldown=RENEW_SECONDS, immediate=False, function=self._renew)

    def __contains__(self, entity_id: str) -> bool:
        """Return whether something waits for changes of ``entity_id`` or reads its state."""
        waiting = self._hass.data.get(_TRACK_STATE_CHANGE_DATA)
        return entity_id in self._read or (waiting is not None and entity_id in waiting.callbacks)

    @callback
    def async_start(self) -> CALLBACK_TYPE:
        """Keep the list current; return a function that ends it."""
        watched = TrackStates(all_states=False, entities=set(), domains={AUTOMATION, SCRIPT})
        tracker = async_track_state_change_filtered(self._hass, watched, self._run_changed)
        removers = [
            tracker.async_remove,
            *(self._hass.bus.async_listen(kind, self._registry_changed) for kind in _REGISTRY_EVENTS),
            self._renewal.async_shutdown,
        ]
        self._renew()

        def stop() -> None:
            for remove in removers:
                remove()

        return stop

    @callback
    def _run_changed(self, event: Event[EventStateChangedData]) -> None:
        """Renew after an automation or script was loaded, and not after each of its runs."""
        old, new = event.data["old_state"], event.data["new_state"]
        if old is None or new is None or old.state == STATE_UNAVAILABLE:
            self._renewal.async_schedule_call()

    @callback
    def _registry_changed(self, _: Event[Any]) -> None:
        self._renewal.async_schedule_call()

    @callback
    def _renew(self) -> None:
        read: set[str] = set()
        targets: dict[str, set[str]] = {
            key: set() for key in (ATTR_ENTITY_ID, ATTR_DEVICE_ID, ATTR_AREA_ID, ATTR_FLOOR_ID, ATTR_LABEL_ID)
        }
        for component in map(self._hass.data.get, (AUTOMATION, SCRIPT)):
            for each in component.entities if component else ():
                # Templates are text to Home Assistant: whatever looks like an entity id in them may be one.
                read.update(_entity_ids(each.raw_config))
                targets[ATTR_ENTITY_ID] |= each.referenced_entities
                targets[ATTR_DEVICE_ID] |= each.referenced_devices
                targets[ATTR_AREA_ID] |= each.referenced_areas
                targets[ATTR_FLOOR_ID] |= each.referenced_floors
                targets[ATTR_LABEL_ID] |= each.referenced_labels
        # With configuration and diagnostic entities, which an action on a whole area would leave out.
        selection = TargetSelection({key: list(ids) for key, ids in targets.items()})
        found = async_extract_referenced_entity_ids(self._hass, selection, primary_entities_only=False)
        self._read = frozenset(read | found.referenced | found.indirectly_referenced)
        self._on_renewed()


def _entity_ids(config: object) -> Iterator[str]:
    """Yield what looks like an entity id in the texts of a configuration."""
    parts: list[object] = [config]
    while parts:
        match parts.pop():
            case str() as text:
                yield from _ENTITY_ID.findall(text)
            case dict() as mapping:
                parts.extend(mapping.values())
            case list() | tuple() as items:
                parts.extend(items)
            case _:
                pass
