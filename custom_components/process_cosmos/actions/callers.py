"""Which automation or script calls: found by the context both announce before their first action."""

import asyncio
from collections import OrderedDict
from collections.abc import Mapping
from typing import Any

from homeassistant.components.automation import EVENT_AUTOMATION_TRIGGERED
from homeassistant.components.script import EVENT_SCRIPT_STARTED
from homeassistant.const import ATTR_DOMAIN, ATTR_ENTITY_ID, EVENT_CALL_SERVICE
from homeassistant.core import Context, Event, HomeAssistant, callback
from homeassistant.util.hass_dict import HassKey

from custom_components.process_cosmos.const import DOMAIN

REMEMBERED = 10_000
"""Runs remembered, and actions that people began; what waits longer than so many later ones calls as nobody."""


class Callers:
    """Remembers who runs under which context, and what people began with another action than ours."""

    def __init__(self, hass: HomeAssistant) -> None:
        """Listen from now on."""
        self._by_context: OrderedDict[str, str] = OrderedDict()
        self._is_indirect: OrderedDict[str, bool] = OrderedDict()
        for event_type in (EVENT_AUTOMATION_TRIGGERED, EVENT_SCRIPT_STARTED):
            hass.bus.async_listen(event_type, self._remember)
        hass.bus.async_listen(EVENT_CALL_SERVICE, self._remember_first_action)

    async def async_wait_until_announced(self, context: Context) -> None:
        """Return when whoever runs under ``context`` has been announced.

        The bus keeps back what is fired while it hands out another event, and an automation may get as far as our
        action within that event: its own announcement comes right after it.
        """
        if context.id not in self._by_context:
            await asyncio.sleep(0)

    def caller(self, context: Context) -> str | None:
        """Return the entity id of the automation or script that runs under ``context``."""
        return self._by_context.get(context.id)

    def is_direct(self, context: Context) -> bool:
        """Return whether a person calls our action himself: the fields are his, and no template in them is rendered.

        A call by an automation, a script, an answer's actions or a template entity is not: their authors wrote it.
        """
        is_indirect = self._is_indirect.get(context.id, False)
        return context.user_id is not None and context.id not in self._by_context and not is_indirect

    def note_answer(self, context: Context) -> None:
        """Note that an answer's actions run under ``context``: nothing announces them."""
        _add(self._is_indirect, context.id, value=True)

    @callback
    def _remember(self, event: Event[Mapping[str, Any]]) -> None:
        # A script called by an automation runs under the automation's context: the automation was first.
        _add(self._by_context, event.context.id, event.data[ATTR_ENTITY_ID])

    @callback
    def _remember_first_action(self, event: Event[Mapping[str, Any]]) -> None:
        # Each action that a person calls has a context of its own, which all that follows from it shares.
        if event.context.user_id is not None:
            _add(self._is_indirect, event.context.id, value=event.data[ATTR_DOMAIN] != DOMAIN)


def _add[T](remembered: OrderedDict[str, T], context_id: str, value: T) -> None:
    """Add ``value`` unless there is one; forget the oldest beyond ``REMEMBERED``."""
    remembered.setdefault(context_id, value)
    if len(remembered) > REMEMBERED:
        remembered.popitem(last=False)


CALLERS: HassKey[Callers] = HassKey(f"{DOMAIN}_callers")
