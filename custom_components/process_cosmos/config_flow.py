"""The config flow: with or without the app, recipients, destinations, test notification."""

import asyncio
import contextlib
from collections.abc import Callable, Coroutine, Mapping
from typing import Any, cast, override

from homeassistant import config_entries
from homeassistant.config_entries import ConfigEntry, ConfigEntryState, ConfigFlow, ConfigFlowResult
from homeassistant.const import CONF_TOKEN, CONF_URL
from homeassistant.core import HomeAssistant, callback
from homeassistant.exceptions import HomeAssistantError
from homeassistant.helpers.hassio import is_hassio
from homeassistant.helpers.service_info.hassio import HassioServiceInfo
from homeassistant.util.file import WriteError

from .alerts.recipient_selection import default_selection, phone_notify_entities
from .alerts.recipients import as_options
from .alerts.test_notification import async_test_notification, results_shown
from .const import CONF_DESTINATIONS, CONF_PHONES, CONF_SHA256, CONF_SITE, DOMAIN, LOGGER
from .contract.destinations import DestinationKind
from .contract.messages import Request
from .flows import forms
from .flows.app_installation import async_install, async_lacks_broker, async_start
from .flows.destinations import AddDestinationSteps
from .flows.gateway_requests import GatewayAccess, async_pair, async_remove_destinations, async_send_requests
from .flows.options_flow import CosmosOptionsFlow
from .flows.other_gateway import entry_update_for
from .gateway.client import GatewayError, Reply
from .issues.site_issues import show_other_gateway
from .workflows import workflows

_PEOPLE_ONLY = {CONF_SITE: None, CONF_URL: None, CONF_TOKEN: None, CONF_SHA256: None}


class CosmosConfigFlow(AddDestinationSteps, ConfigFlow, domain=DOMAIN):
    """Sets up a site, or adds an app to a site without one."""

    VERSION = 1

    def __init__(self) -> None:
        """Start without an app, without recipients and without a site to extend."""
        self._found: GatewayAccess | None = None
        self._join_values: ConfigEntry | None = None
        """The existing site without an app to which the app is added."""
        self._options: dict[str, Any] = {CONF_DESTINATIONS: []}
        self._test_notification = False
        self._finished = False
        self._supervisor_task: asyncio.Task[GatewayAccess | None] | None = None
        """The running installation or start of the app by the Supervisor."""
        self._failed: GatewayError | None = None

    @staticmethod
    @callback
    @override
    def async_get_options_flow(config_entry: ConfigEntry) -> CosmosOptionsFlow:
        """Return the flow behind "Configure"."""
        return CosmosOptionsFlow()

    @override
    async def async_step_user(self, user_input: dict[str, Any] | None = None) -> ConfigFlowResult:
        """Ask whether to use the app; with a Supervisor, offer to install it."""
        app = ["app"] if is_hassio(self.hass) else []
        return self.async_show_menu(step_id="user", menu_options=[*app, "without_app", "pairing"])

    async def async_step_app(self, _: dict[str, Any] | None = None) -> ConfigFlowResult:
        """Have the Supervisor install the app if it is not installed."""
        return await self._progress("app", async_install, "start_app")

    async def async_step_start_app(self, _: dict[str, Any] | None = None) -> ConfigFlowResult:
        """Have the Supervisor start the app, and wait until it responds."""
        return await self._progress("start_app", async_start, "broker")

    async def async_step_app_failed(self, user_input: dict[str, Any] | None = None) -> ConfigFlowResult:
        """Show why the app was not installed or started; retry, or continue without the app."""
        if user_input is None:
            error = self._failed
            return self.async_show_form(
                step_id="app_failed",
                data_schema=forms.APP_FAILED,
                errors=forms.form_errors("app_failed", error.code if error else ""),
                description_placeholders={"reason": str(error)},
            )
        if not user_input[forms.CONF_WITHOUT_APP]:
            return await self.async_step_app()
        return await (self.async_step_finish() if CONF_PHONES in self._options else self.async_step_without_app())

    async def async_step_broker(self, _: dict[str, Any] | None = None) -> ConfigFlowResult:
        """Show a hint if there is no MQTT broker."""
        if await async_lacks_broker(self.hass):
            return self.async_show_menu(step_id="broker", menu_options=["without_broker", "broker"])
        return await self.async_step_without_broker()

    async def async_step_without_broker(self, _: dict[str, Any] | None = None) -> ConfigFlowResult:
        """Continue with the app that was found."""
        return await self._use(self._app)

    async def async_step_without_app(self, _: dict[str, Any] | None = None) -> ConfigFlowResult:
        """Set up a site without an app, if there is none yet."""
        if self._entry_with(CONF_SITE, None):
            return self.async_abort(reason="already_configured")
        return await self.async_step_who()

    async def async_step_pairing(self, user_input: dict[str, Any] | None = None) -> ConfigFlowResult:
        """Ask for a pairing line."""
        return await self._pair("pairing", user_input)

    @override
    async def async_step_hassio(self, discovery_info: HassioServiceInfo) -> ConfigFlowResult:
        """Handle the app that the Supervisor announces; a configured site gets its new address and token."""
        self._found = GatewayAccess.from_discovery(discovery_info.config)
        if self._found is None:
            return self.async_abort(reason="invalid_discovery")
        await self.async_set_unique_id(self._found.site)
        self._abort_if_unique_id_configured(updates=self._found.data)
        # Another identity at the address of a site: its app has lost its data. A person decides in the repair, because
        # the destinations and their secrets were in the lost app.
        if served := self._entry_with(CONF_URL, self._found.url):
            show_other_gateway(self.hass, served)
            return self.async_abort(reason="other_app", description_placeholders={"site": served.title})
        self.context["title_placeholders"] = {"name": discovery_info.name}
        return await self.async_step_hassio_confirm()

    async def async_step_hassio_confirm(self, user_input: dict[str, Any] | None = None) -> ConfigFlowResult:
        """Ask for confirmation before using the app."""
        errors: dict[str, str] = {}
        if user_input is not None and (found := self._found):
            # The discovery message may be from an earlier run of the app, so what it contains is tried first.
            _, errors = await forms.try_request("hassio_confirm", lambda: async_send_requests(self.hass, found))
            if not errors:
                return await self.async_step_broker()
        return self.async_show_form(step_id="hassio_confirm", errors=errors)

    async def async_step_reauth(self, entry_data: Mapping[str, Any]) -> ConfigFlowResult:  # noqa: ARG002 - Home Assistant's signature
        """Start the dialog for a gateway that no longer accepts the token."""
        return await self.async_step_reauth_confirm()

    async def async_step_reauth_confirm(self, user_input: dict[str, Any] | None = None) -> ConfigFlowResult:
        """Ask for a new pairing line of the same gateway."""
        return await self._pair("reauth_confirm", user_input)

    async def async_step_reconfigure(self, user_input: dict[str, Any] | None = None) -> ConfigFlowResult:
        """Ask for a new pairing line: for a new address, or to add an app to a site without one."""
        return await self._pair("reconfigure", user_input)

    async def async_step_other_gateway(self, user_input: dict[str, Any] | None = None) -> ConfigFlowResult:
        """Ask for confirmation before the site is served by a different app."""
        entry = self._entry_of_flow()
        if user_input is None or entry is None:
            return self.async_show_form(step_id="other_gateway")
        return self.async_update_reload_and_abort(entry, **entry_update_for(entry, self._app), reason="moved")

    async def async_step_who(self, user_input: dict[str, Any] | None = None) -> ConfigFlowResult:
        """Ask which recipients to notify."""
        errors: dict[str, str] = {}
        if user_input is not None:
            if forms.has_recipient(user_input):
                self._options.update(as_options(self.hass, user_input))
                return await self.async_step_elsewhere()
            errors["base"] = "nobody"
        chosen = user_input or default_selection(self.hass)
        schema = self.add_suggested_values_to_schema(forms.recipients_schema(phone_notify_entities(self.hass)), chosen)
        return self.async_show_form(step_id="who", data_schema=schema, errors=errors)

    async def async_step_elsewhere(self, _: dict[str, Any] | None = None) -> ConfigFlowResult:
        """Ask whether to send alerts to a destination too."""
        if self._found:
            return self.async_show_menu(step_id="elsewhere", menu_options=["finish", *DestinationKind])
        return await self.async_step_elsewhere_without_app()

    async def async_step_elsewhere_without_app(self, _: dict[str, Any] | None = None) -> ConfigFlowResult:
        """Offer the app, which destinations need."""
        option = "app" if is_hassio(self.hass) else "pairing"
        return self.async_show_menu(step_id="elsewhere_without_app", menu_options=["finish", option])

    async def async_step_finish(self, user_input: dict[str, Any] | None = None) -> ConfigFlowResult:
        """Offer blueprint and test notification, then create the entry; an app added to a site skips the form."""
        if self._found and self._join_values:
            # Before the flow ends: ``async_remove`` would otherwise remove the new destinations from the gateway.
            self._finished = True
            for other in self._async_in_progress(match_context={"unique_id": self._found.site}):
                self.hass.config_entries.flow.async_abort(other["flow_id"])  # a discovery of the same app
            return self.async_update_reload_and_abort(
                self._join_values,
                unique_id=self._found.site,
                data=self._found.data,
                options={**self._join_values.options, **self._options},
                reason="joined",
            )
        errors: dict[str, str] = {}
        if user_input is not None:
            # Before the entry is created, because only then the form can report a failure.
            errors = await self._install_blueprints(user_input)
            if not errors:
                self._finished = True
                self._test_notification = user_input[forms.CONF_TEST_NOTIFICATION]
                return self.async_create_entry(
                    title=self._title(),
                    data=self._found.data if self._found else _PEOPLE_ONLY,
                    options=self._options,
                    description="leak_guard" if user_input[forms.CONF_INSTALL_BLUEPRINTS] else None,
                )
        schema = self.add_suggested_values_to_schema(forms.FINISH, user_input)
        return self.async_show_form(step_id="finish", data_schema=schema, errors=errors, last_step=True)

    @override
    async def async_on_create_entry(self, result: ConfigFlowResult) -> ConfigFlowResult:
        """Send the test notification from the new site, and show the results."""
        if self._test_notification and result["result"].state is ConfigEntryState.LOADED:
            # A full disk must not prevent the set-up: a repair issue reports it, and people are notified from RAM.
            with contextlib.suppress(HomeAssistantError):
                results = await async_test_notification(self.hass, result["result"])
                result["description"] = "leak_guard_tested" if result["description"] else "tested"
                result["description_placeholders"] = {"results": results_shown(self.hass, result["result"], results)}
        return result

    @callback
    @override
    def async_remove(self) -> None:
        """Remove the destinations of an abandoned flow from the gateway."""
        if self._found and not self._finished:
            names = (*self._destination_names, *([self._adding] if self._adding else []))
            work = async_remove_destinations(self.hass, self._found, names)
            # In the background: this is a callback, and the gateway may not respond.
            self.hass.async_create_background_task(work, f"{DOMAIN} abandoned flow")

    async def _pair(self, step_id: str, user_input: dict[str, Any] | None) -> ConfigFlowResult:
        errors: dict[str, str] = {}
        if user_input is not None:
            line = user_input[forms.CONF_LINE]
            found, errors = await forms.try_request(forms.CONF_LINE, lambda: async_pair(self.hass, line))
            if found:
                return await self._use(found)
        schema = self.add_suggested_values_to_schema(forms.PAIRING, user_input)
        return self.async_show_form(step_id=step_id, data_schema=schema, errors=errors)

    async def _use(self, found: GatewayAccess) -> ConfigFlowResult:
        """Continue with an accepted gateway: update its entry, extend a site without an app, or set up a new site."""
        self._found = found
        # A discovery of the same app may wait for confirmation; it must not abort this flow.
        await self.async_set_unique_id(found.site, raise_on_progress=False)
        entry = self._entry_of_flow()
        if entry and entry.data[CONF_SITE]:
            if found.site == entry.data[CONF_SITE]:
                return self.async_update_reload_and_abort(entry, data_updates=found.data)
            # Two entries must not use one app: each new session at a gateway ends the older one.
            self._abort_if_unique_id_configured()
            return await self.async_step_other_gateway()
        self._abort_if_unique_id_configured(updates=found.data)
        self._join_values = entry or self._entry_with(CONF_SITE, None)
        if self._join_values or CONF_PHONES in self._options:
            return await self.async_step_elsewhere()
        return await self.async_step_who()

    async def _progress(
        self, step_id: str, work: Callable[[HomeAssistant], Coroutine[Any, Any, GatewayAccess | None]], done: str
    ) -> ConfigFlowResult:
        """Show progress while ``work`` runs; then continue with the step ``done``, or with ``app_failed``."""
        if self._supervisor_task is None:
            # Not eager: a step that finishes immediately would pass the menu choice on to the next step.
            self._supervisor_task = self.hass.async_create_task(
                work(self.hass), f"{DOMAIN} {step_id}", eager_start=False
            )
        if not self._supervisor_task.done():
            return self.async_show_progress(
                step_id=step_id, progress_action=step_id, progress_task=self._supervisor_task
            )
        # Cleared, so that a retry or the next step starts a task of its own.
        finished, self._supervisor_task = self._supervisor_task, None
        try:
            self._found = await finished
        except GatewayError as error:
            self._failed, done = error, "app_failed"
            LOGGER.warning("%s: %s", error.code, error)
        return self.async_show_progress_done(next_step_id=done)

    @override
    async def _send_request(self, request: Request) -> Reply:
        """Send a request to the gateway that was found, in a session of its own."""
        (reply,) = await async_send_requests(self.hass, self._app, request)
        return reply

    @override
    async def _save_destination(self, name: str) -> ConfigFlowResult:
        """Add the destination to the options of the future entry."""
        self._options[CONF_DESTINATIONS].append(name)
        return await self.async_step_finish()

    @property
    @override
    def _destination_names(self) -> list[str]:
        """The names of the destinations added in this flow."""
        names: list[str] = self._options[CONF_DESTINATIONS]
        return names

    @property
    @override
    def _destination_labels(self) -> list[str]:
        """No labels: this flow adds only one destination."""
        return []

    async def _install_blueprints(self, user_input: dict[str, Any]) -> dict[str, str]:
        if user_input[forms.CONF_INSTALL_BLUEPRINTS]:
            try:
                await workflows.async_install(self.hass)
            except OSError, WriteError:
                return {"base": "blueprints_not_written"}
        return {}

    def _entry_of_flow(self) -> ConfigEntry | None:
        match self.source:
            case config_entries.SOURCE_REAUTH:
                return self._get_reauth_entry()
            case config_entries.SOURCE_RECONFIGURE:
                return self._get_reconfigure_entry()
            case _:
                return None

    @property
    def _app(self) -> GatewayAccess:
        """The gateway, for steps that run after it was found."""
        return cast("GatewayAccess", self._found)

    def _entry_with(self, key: str, value: str | None) -> ConfigEntry | None:
        # An ignored discovery is an entry too, but one without data.
        entries = self._async_current_entries(include_ignore=False)
        return next((entry for entry in entries if entry.data[key] == value), None)

    def _title(self) -> str:
        number = len(self._async_current_entries(include_ignore=False)) + 1
        return "Process Cosmos" if number == 1 else f"Process Cosmos {number}"
