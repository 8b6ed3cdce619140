"""Repair of a site whose app was lost or replaced: a different app serves it from now on."""

from collections.abc import Awaitable, Callable
from typing import Any

import probatio as vol
from homeassistant.components.repairs import RepairsFlow, RepairsFlowResult
from homeassistant.config_entries import ConfigEntry
from homeassistant.const import CONF_URL

from custom_components.process_cosmos.const import CONF_DESTINATIONS, CONF_SITE, DOMAIN
from custom_components.process_cosmos.gateway.client import GATEWAY_AWAY, GatewayAwayError

from . import forms
from .app_installation import async_find_app, is_supervised_app
from .gateway_requests import GatewayAccess, async_pair, async_send_requests


def entry_update_for(entry: ConfigEntry, found: GatewayAccess) -> dict[str, Any]:
    """Return the update of ``entry`` for the app ``found``. Destinations are dropped: only the old app knew them.

    Devices and entities are renamed when the entry is loaded. All alerts are transferred again, because the new app
    has none of them.
    """
    options = {**entry.options, CONF_DESTINATIONS: []} if found.site != entry.data[CONF_SITE] else entry.options
    return {"unique_id": found.site, "data": found.data, "options": options}


class OtherGatewayFlow(RepairsFlow):
    """Connects the site to the app that responds now; a pairing line is needed unless the Supervisor runs the app."""

    def __init__(self, entry: ConfigEntry | None) -> None:
        """Repair the site ``entry``; None: it was removed meanwhile."""
        self._entry = entry

    async def async_step_init(self, _: dict[str, Any] | None = None) -> RepairsFlowResult:
        """Show the step for a supervised app, or the one for a pairing line."""
        if self._entry is None:
            return self.async_abort(reason="gone")
        return await (
            self.async_step_use() if is_supervised_app(self.hass, self._entry.data) else self.async_step_line()
        )

    async def async_step_use(self, user_input: dict[str, Any] | None = None) -> RepairsFlowResult:
        """Use the app that the Supervisor runs."""
        return await self._replace_app("use", vol.Schema({}), self._find_supervised, user_input)

    async def async_step_line(self, user_input: dict[str, Any] | None = None) -> RepairsFlowResult:
        """Ask for a pairing line of the app that responds now."""
        return await self._replace_app("line", forms.PAIRING, self._find_by_line, user_input)

    async def _replace_app(
        self,
        step_id: str,
        schema: vol.Schema,
        find: Callable[[ConfigEntry, dict[str, Any]], Awaitable[GatewayAccess]],
        user_input: dict[str, Any] | None,
    ) -> RepairsFlowResult:
        errors: dict[str, str] = {}
        if user_input is not None and (entry := self._entry):
            found, errors = await forms.try_request(step_id, lambda: find(entry, user_input))
            # Two entries must not use one app: each new session at a gateway ends the older one.
            if found:
                entries = self.hass.config_entries
                if entries.async_entry_for_domain_unique_id(DOMAIN, found.site) not in (None, entry):
                    return self.async_abort(reason="already_configured")
                entries.async_update_entry(entry, **entry_update_for(entry, found))
                entries.async_schedule_reload(entry.entry_id)
                return self.async_create_entry(data={})
        filled = self.add_suggested_values_to_schema(schema, user_input)
        return self.async_show_form(step_id=step_id, data_schema=filled, errors=errors)

    async def _find_supervised(self, entry: ConfigEntry, _: dict[str, Any]) -> GatewayAccess:
        found = await async_find_app(self.hass, entry.data[CONF_URL])
        if found is None:
            raise GatewayAwayError(GATEWAY_AWAY, "No app has announced itself")
        # The discovery message may be from an earlier run of the app, so what it contains is tried first.
        await async_send_requests(self.hass, found)
        return found

    async def _find_by_line(self, _: ConfigEntry, answer: dict[str, Any]) -> GatewayAccess:
        return await async_pair(self.hass, answer[forms.CONF_LINE])
