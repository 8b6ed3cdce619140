"""Which automation or script calls: found by the context both announce before their first action."""

import asyncio
from collections import OrderedDict
from collections.abc import Mapping
from typing import Any

from homeassistant.components.automation import EVENT_AUTOMATION_TRIGGERED
from homeassistant.components.script import EVENT_SCRIPT_STARTED
from homeassistant.const import ATTR_ENTITY_ID
from homeassistant.core import Context, Event, HomeAssistant, callback
from homeassistant.util.hass_dict import HassKey

from .const import DOMAIN

REMEMBERED = 10_000
"""Runs remembered; an automation that waits longer than so many later runs calls as nobody."""


class Callers:
    """Remembers who runs under which context."""

    def __init__(self, hass: HomeAssistant) -> None:
        """Listen from now on."""
        self._by_context: OrderedDict[str, str] = OrderedDict()
        for event_type in (EVENT_AUTOMATION_TRIGGERED, EVENT_SCRIPT_STARTED):
            hass.bus.async_listen(event_type, self._remember)

    async def async_announced(self, context: Context) -> None:
        """Return when whoever runs under ``context`` has been announced.

        The bus keeps back what is fired while it hands out another event, and an automation may get as far as our
        action within that event: its own announcement comes right after it.
        """
        if context.id not in self._by_context:
            await asyncio.sleep(0)

    def caller(self, context: Context) -> str | None:
        """Return the entity id of the automation or script that runs under ``context``."""
        return self._by_context.get(context.id)

    @callback
    def _remember(self, event: Event[Mapping[str, Any]]) -> None:
        # A script called by an automation runs under the automation's context: the automation was first.
        self._by_context.setdefault(event.context.id, event.data[ATTR_ENTITY_ID])
        if len(self._by_context) > REMEMBERED:
            self._by_context.popitem(last=False)


CALLERS: HassKey[Callers] = HassKey(f"{DOMAIN}_callers")
