"""What can be changed later: who is told, destinations; and a test ring."""

import uuid
from typing import Any

from homeassistant.config_entries import ConfigEntryState, ConfigFlowResult, OptionsFlowWithReload
from homeassistant.exceptions import HomeAssistantError

from . import flow_forms as forms
from .const import CONF_DESTINATIONS
from .contract.destinations import DestinationKind, RemoveDestination
from .contract.messages import Request
from .coordinator import CosmosCoordinator
from .data import CosmosConfigEntry
from .trial_ring import async_test_ring


class CosmosOptionsFlow(OptionsFlowWithReload):
    """The menu behind "Configure"."""

    async def async_step_init(self, _: dict[str, Any] | None = None) -> ConfigFlowResult:
        """Show what can be changed: destinations only where there is a gateway."""
        if self.config_entry.state is not ConfigEntryState.LOADED:
            return self.async_abort(reason="not_loaded")
        menu = ["who"]
        if self._coordinator:
            menu += DestinationKind
        if self._names:
            menu.append("remove")
        return self.async_show_menu(step_id="init", menu_options=[*menu, "test_ring"])

    async def async_step_who(self, user_input: dict[str, Any] | None = None) -> ConfigFlowResult:
        """Change who is told."""
        errors: dict[str, str] = {}
        if user_input is not None:
            if forms.somebody(user_input):
                return self._keep(user_input)
            errors["base"] = "nobody"
        schema = self.add_suggested_values_to_schema(forms.WHO, user_input or self.config_entry.options)
        return self.async_show_form(step_id="who", data_schema=schema, errors=errors)

    async def async_step_webhook(self, user_input: dict[str, Any] | None = None) -> ConfigFlowResult:
        """Add a URL to send to."""
        return await self._destination(DestinationKind.WEBHOOK, user_input)

    async def async_step_cloud(self, user_input: dict[str, Any] | None = None) -> ConfigFlowResult:
        """Add a cloud endpoint."""
        return await self._destination(DestinationKind.CLOUD, user_input)

    async def async_step_remove(self, user_input: dict[str, Any] | None = None) -> ConfigFlowResult:
        """Remove a destination, at the gateway first."""
        errors: dict[str, str] = {}
        if user_input is not None:
            name = user_input[forms.CONF_NAME]
            request = RemoveDestination(id=uuid.uuid4().hex, name=name)
            _, errors = await forms.attempt("remove", lambda: self._ask(request))
            if not errors:
                return self._keep({CONF_DESTINATIONS: [other for other in self._names if other != name]})
        return self.async_show_form(step_id="remove", data_schema=forms.removal(self._names), errors=errors)

    async def async_step_test_ring(self, user_input: dict[str, Any] | None = None) -> ConfigFlowResult:
        """Send a test ring."""
        errors: dict[str, str] = {}
        if user_input is not None:
            try:
                await async_test_ring(self.hass, self.config_entry)
            except HomeAssistantError as error:
                errors["base"] = error.translation_key or "unknown"
            else:
                return self.async_abort(reason="test_ring_sent")
        return self.async_show_form(step_id="test_ring", errors=errors, last_step=True)

    async def _destination(self, kind: DestinationKind, user_input: dict[str, Any] | None) -> ConfigFlowResult:
        errors: dict[str, str] = {}
        if user_input is not None:

            async def add() -> str:
                request = forms.destination(kind, user_input, self._names)
                await self._ask(request)
                return request.name

            name, errors = await forms.attempt(kind, add)
            if name:
                return self._keep({CONF_DESTINATIONS: [*self._names, name]})
        schema = self.add_suggested_values_to_schema(forms.DESTINATIONS[kind], user_input)
        return self.async_show_form(step_id=kind, data_schema=schema, errors=errors)

    async def _ask(self, request: Request) -> None:
        if self._coordinator:
            await self._coordinator.async_ask(request)

    def _keep(self, changed: dict[str, Any]) -> ConfigFlowResult:
        return self.async_create_entry(data={**self.config_entry.options, **changed})

    @property
    def _coordinator(self) -> CosmosCoordinator | None:
        entry: CosmosConfigEntry = self.config_entry
        return entry.runtime_data.coordinator

    @property
    def _names(self) -> list[str]:
        """Those set from here, and whatever else the gateway sends to."""
        status = self._coordinator.status if self._coordinator else None
        links = [link.name for link in status.status.links] if status else []
        return list(dict.fromkeys([*self.config_entry.options[CONF_DESTINATIONS], *links]))
