"""What can be changed later: who is notified, destinations; and a test notification."""

import uuid
from typing import Any

from homeassistant.config_entries import ConfigEntryState, ConfigFlowResult, OptionsFlowWithReload
from homeassistant.exceptions import HomeAssistantError

from . import flow_forms as forms
from .const import CONF_DESTINATIONS
from .contract.destinations import DestinationKind, RemoveDestination
from .contract.escalations import Severity
from .contract.messages import Request
from .coordinator import CosmosCoordinator
from .data import CosmosConfigEntry
from .escalations.engine import Escalations
from .escalations.recipients import as_answer, as_options
from .trial_ring import async_test_ring, results_shown


class CosmosOptionsFlow(OptionsFlowWithReload):
    """The menu behind "Configure"."""

    _results = ""
    """How the test notification went, a line per recipient."""

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
                return self._keep(as_options(self.hass, user_input))
            errors["base"] = "nobody"
        schema = self.add_suggested_values_to_schema(
            forms.WHO, user_input or as_answer(self.hass, self.config_entry.options)
        )
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
        """Send a test notification, then show how it went with each recipient."""
        errors: dict[str, str] = {}
        if user_input is not None:
            severity = Severity.CRITICAL if user_input[forms.CONF_CRITICAL] else Severity.INFO
            try:
                results = await async_test_ring(self.hass, self.config_entry, severity)
            except HomeAssistantError as error:
                errors["base"] = error.translation_key or "unknown"
            else:
                if not self._escalations.nobody_left:
                    self._results = results_shown(self.hass, results)
                    return await self.async_step_test_ring_result()
                errors["base"] = "nobody_left"
        return self.async_show_form(step_id="test_ring", data_schema=forms.TEST_RING, errors=errors)

    async def async_step_test_ring_result(self, _: dict[str, Any] | None = None) -> ConfigFlowResult:
        """Show how the test notification went with each recipient."""
        return self.async_show_menu(
            step_id="test_ring_result",
            menu_options=["test_ring", "who"],
            description_placeholders={"results": self._results},
        )

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
    def _escalations(self) -> Escalations:
        entry: CosmosConfigEntry = self.config_entry
        return entry.runtime_data.escalations

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
