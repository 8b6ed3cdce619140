"""Identification of the automation or script that calls an action, by the context it announces before it runs."""

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
"""Contexts remembered per table; a run older than this many later ones is an unknown caller."""


class Callers:
    """Maps contexts to automations and scripts, and marks user contexts that began with another domain's action."""

    def __init__(self, hass: HomeAssistant) -> None:
        """Start listening to the events that announce runs and actions."""
        self._by_context: OrderedDict[str, str] = OrderedDict()
        self._is_indirect: OrderedDict[str, bool] = OrderedDict()
        for event_type in (EVENT_AUTOMATION_TRIGGERED, EVENT_SCRIPT_STARTED):
            hass.bus.async_listen(event_type, self._remember)
        hass.bus.async_listen(EVENT_CALL_SERVICE, self._remember_first_action)

    async def async_wait_until_announced(self, context: Context) -> None:
        """Wait until the automation or script that runs under ``context`` has been announced.

        The event bus delays events fired while it dispatches another one, and an automation may call our action during
        that dispatch: its own announcement follows immediately afterwards.
        """
        if context.id not in self._by_context:
            await asyncio.sleep(0)

    def caller(self, context: Context) -> str | None:
        """Return the entity id of the automation or script that runs under ``context``; None if it is unknown."""
        return self._by_context.get(context.id)

    def is_direct(self, context: Context) -> bool:
        """Return whether a user calls our action directly: the fields come from the user, and no template is rendered.

        A call by an automation, a script, the actions of an answer or a template entity is not direct.
        """
        is_indirect = self._is_indirect.get(context.id, False)
        return context.user_id is not None and context.id not in self._by_context and not is_indirect

    def note_answer(self, context: Context) -> None:
        """Mark ``context`` as indirect: the actions of an answer run under it, which no event announces."""
        _add(self._is_indirect, context.id, value=True)

    @callback
    def _remember(self, event: Event[Mapping[str, Any]]) -> None:
        # A script called by an automation shares its context; the automation is announced first and stays the caller.
        _add(self._by_context, event.context.id, event.data[ATTR_ENTITY_ID])

    @callback
    def _remember_first_action(self, event: Event[Mapping[str, Any]]) -> None:
        # Each action that a user calls has a context of its own, which everything it triggers shares.
        if event.context.user_id is not None:
            _add(self._is_indirect, event.context.id, value=event.data[ATTR_DOMAIN] != DOMAIN)


def _add[T](remembered: OrderedDict[str, T], context_id: str, value: T) -> None:
    """Add ``value`` unless the context has one; drop the oldest entry beyond ``REMEMBERED``."""
    remembered.setdefault(context_id, value)
    if len(remembered) > REMEMBERED:
        remembered.popitem(last=False)


CALLERS: HassKey[Callers] = HassKey(f"{DOMAIN}_callers")
