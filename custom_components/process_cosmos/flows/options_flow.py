"""The options flow: recipients, destinations and test notification."""

from functools import partial
from typing import Any, override

from homeassistant.config_entries import ConfigEntryState, ConfigFlowResult, OptionsFlowWithReload
from homeassistant.core import callback
from homeassistant.exceptions import HomeAssistantError
from homeassistant.helpers import entity_registry as er

from custom_components.process_cosmos.alerts.recipient_selection import current_selection, phone_notify_entities
from custom_components.process_cosmos.alerts.recipients import as_options
from custom_components.process_cosmos.alerts.test_notification import async_test_notification, results_shown
from custom_components.process_cosmos.const import CONF_AT_ONCE, CONF_DESTINATIONS, DOMAIN
from custom_components.process_cosmos.contract.alerts import Severity
from custom_components.process_cosmos.contract.destinations import DestinationKind, Link, RemoveDestination, Waiting
from custom_components.process_cosmos.contract.errors import Code
from custom_components.process_cosmos.contract.messages import Request
from custom_components.process_cosmos.data import CosmosConfigEntry, CosmosRuntime
from custom_components.process_cosmos.gateway.client import GATEWAY_AWAY, GatewayAwayError, Reply, RequestRefusedError
from custom_components.process_cosmos.gateway.destination_texts import label_of, state_name, state_with_reason
from custom_components.process_cosmos.reactions.garbage_collection import FULL_COLLECTIONS

from . import forms
from .destinations import AddDestinationSteps, test_placeholders

_REACTIONS = "https://github.com/process-cosmos/process-cosmos/blob/main/docs/reactions.md"


class CosmosOptionsFlow(AddDestinationSteps, OptionsFlowWithReload):
    """The flow behind *Configure*."""

    _results = ""
    """Results of the test notification, one line per recipient."""
    _chosen = ""
    """The name of the selected destination."""

    async def async_step_init(self, _: dict[str, Any] | None = None) -> ConfigFlowResult:
        """Show the menu; destinations are offered only with the app."""
        if self.config_entry.state is not ConfigEntryState.LOADED:
            return self.async_abort(reason="not_loaded")
        menu = ["who"]
        if self._destination_names:
            menu.append("destinations")
        if self._runtime.coordinator:
            menu += [*DestinationKind, "reactions"]
        return self.async_show_menu(step_id="init", menu_options=[*menu, "test_notification"])

    async def async_step_who(self, user_input: dict[str, Any] | None = None) -> ConfigFlowResult:
        """Change the recipients."""
        errors: dict[str, str] = {}
        if user_input is not None:
            if forms.has_recipient(user_input):
                return self._save_options(as_options(self.hass, user_input))
            errors["base"] = "nobody"
        suggested = user_input or current_selection(self.hass, self.config_entry.options)
        schema = self.add_suggested_values_to_schema(
            forms.recipients_schema(phone_notify_entities(self.hass)), suggested
        )
        return self.async_show_form(step_id="who", data_schema=schema, errors=errors)

    async def async_step_destinations(self, user_input: dict[str, Any] | None = None) -> ConfigFlowResult:
        """Show all destinations with label, address and state, and ask for one."""
        if user_input is not None:
            self._chosen = user_input[forms.CONF_NAME]
            return await self.async_step_destination()
        shown = {name: self._line(name) for name in self._destination_names}
        return self.async_show_form(
            step_id="destinations", data_schema=forms.destination_choice_schema(shown), last_step=False
        )

    async def async_step_destination(self, _: dict[str, Any] | None = None) -> ConfigFlowResult:
        """Show the selected destination, and ask what to do with it."""
        link = self._link
        # Without the gateway's status the kind is unknown, and the destination can only be removed.
        menu = [f"change_{link.kind}", "test"] if link else []
        return self.async_show_menu(
            step_id="destination", menu_options=[*menu, "remove"], description_placeholders=self._placeholders
        )

    async def async_step_change_webhook(self, user_input: dict[str, Any] | None = None) -> ConfigFlowResult:
        """Change a webhook, and test it if its address or header changed."""
        return await self._change(DestinationKind.WEBHOOK, user_input)

    async def async_step_change_cloud(self, user_input: dict[str, Any] | None = None) -> ConfigFlowResult:
        """Change a cloud endpoint; enrol again with a new one-time code."""
        return await self._change(DestinationKind.CLOUD, user_input)

    async def async_step_test(self, _: dict[str, Any] | None = None) -> ConfigFlowResult:
        """Send a test event to the destination, bypassing its queue, and show the result."""
        tested, code = await self._request_test(self._chosen)
        if tested is None:
            return self.async_show_form(
                step_id="test", errors={"base": code}, description_placeholders=self._placeholders
            )
        if tested.delivered:
            return self.async_abort(reason="confirmed", description_placeholders=self._placeholders)
        return await self.async_step_test_failed()

    async def async_step_test_failed(self, _: dict[str, Any] | None = None) -> ConfigFlowResult:
        """Show why the test event was not confirmed, and ask what to do."""
        kind = self._link.kind if self._link else DestinationKind.WEBHOOK
        return self.async_show_menu(
            step_id="test_failed",
            menu_options=[f"change_{kind}", *(["approve"] if self._tested.approvable else []), "test"],
            description_placeholders=dict(
                test_placeholders(self.hass, self._placeholders["destination"], self._tested)
            ),
        )

    async def async_step_remove(self, user_input: dict[str, Any] | None = None) -> ConfigFlowResult:
        """Remove the destination and its waiting events after confirmation, at the gateway first."""
        errors: dict[str, str] = {}
        if user_input is not None:
            if self._runtime.coordinator:
                _, errors = await forms.try_request("remove", lambda: self._remove_at_gateway(self._chosen))
            if not errors:
                return self._save_options(
                    {CONF_DESTINATIONS: [other for other in self._destination_names if other != self._chosen]}
                )
        return self.async_show_form(
            step_id="remove", errors=errors, description_placeholders=self._placeholders, last_step=True
        )

    async def async_step_reactions(self, user_input: dict[str, Any] | None = None) -> ConfigFlowResult:
        """Ask which numbers are always shown at once, how long reactions may take, and whether to make them steady."""
        registry = er.async_get(self.hass)
        if user_input is not None:
            chosen = (registry.async_get(entity) for entity in user_input[CONF_AT_ONCE])
            return self._save_options({**user_input, CONF_AT_ONCE: [one.id for one in chosen if one]})
        found = (registry.async_get(one) for one in self.config_entry.options.get(CONF_AT_ONCE, ()))
        suggested = {**self.config_entry.options, CONF_AT_ONCE: [one.entity_id for one in found if one]}
        collections = self.hass.data[FULL_COLLECTIONS]
        return self.async_show_form(
            step_id="reactions",
            data_schema=self.add_suggested_values_to_schema(forms.REACTIONS, suggested),
            description_placeholders={
                "without": _seconds(collections.without_freeze),
                "with": _seconds(collections.with_freeze),
                "reactions_url": _REACTIONS,
            },
        )

    async def async_step_test_notification(self, user_input: dict[str, Any] | None = None) -> ConfigFlowResult:
        """Send a test notification, then show the results."""
        errors: dict[str, str] = {}
        if user_input is not None:
            severity = Severity.CRITICAL if user_input[forms.CONF_CRITICAL] else Severity.INFO
            try:
                results = await async_test_notification(self.hass, self.config_entry, severity)
            except HomeAssistantError as error:
                errors["base"] = error.translation_key or "unknown"
            else:
                if not self._runtime.alerts.nobody_left:
                    self._results = results_shown(self.hass, self.config_entry, results)
                    return await self.async_step_test_notification_result()
                errors["base"] = "nobody_left"
        return self.async_show_form(step_id="test_notification", data_schema=forms.TEST_NOTIFICATION, errors=errors)

    async def async_step_test_notification_result(self, _: dict[str, Any] | None = None) -> ConfigFlowResult:
        """Show the result of the test notification for each recipient."""
        return self.async_show_menu(
            step_id="test_notification_result",
            menu_options=["test_notification", "who"],
            description_placeholders={"results": self._results},
        )

    @callback
    @override
    def async_remove(self) -> None:
        """Remove a destination that was not saved from the gateway when the dialog is closed."""
        if self._adding:
            work = forms.try_request("remove", partial(self._remove_at_gateway, self._adding))
            self.hass.async_create_background_task(work, f"{DOMAIN} abandoned options")

    async def _change(self, kind: DestinationKind, user_input: dict[str, Any] | None) -> ConfigFlowResult:
        errors: dict[str, str] = {}
        if user_input is not None:
            user_input, errors = forms.encode_url_field(user_input)
            errors = errors or await self._change_at_gateway(kind, user_input)
            if not errors and any(user_input.get(field) for field in forms.REACHED_BY):
                return await self.async_step_test()
            if not errors:
                # Nothing to store here: the app keeps label, address and kinds.
                return self._save_options({})
        suggested = user_input
        if suggested is None and (link := self._link):
            suggested = {forms.CONF_LABEL: label_of(link), forms.CONF_KINDS: [*link.kinds]}
        return self.async_show_form(
            step_id=f"change_{kind}",
            data_schema=self.add_suggested_values_to_schema(forms.CHANGES[kind], suggested),
            errors=errors,
            description_placeholders=self._placeholders,
        )

    async def _change_at_gateway(self, kind: DestinationKind, answer: dict[str, Any]) -> dict[str, str]:
        """Change the selected destination at the gateway; return the errors of the form."""
        others = [label_of(link) for link in self._links if link.name != self._chosen]
        if answer.get(forms.CONF_LABEL, "").strip() in others:
            return {forms.CONF_LABEL: forms.LABEL_TAKEN}

        async def change() -> Reply:
            return await self._send_request(forms.change_request(kind, answer, self._chosen))

        _, errors = await forms.try_request(kind, change)
        return errors

    @override
    async def _test_added(self) -> ConfigFlowResult:
        """Test the destination that was added, or else the selected one."""
        return await (super()._test_added() if self._adding else self.async_step_test())

    @override
    async def _send_request(self, request: Request) -> Reply:
        """Send a request in the session of the site."""
        if self._runtime.coordinator is None:
            raise GatewayAwayError(GATEWAY_AWAY, "The site has no app")
        return await self._runtime.coordinator.connection.async_send_request(request)

    async def _remove_at_gateway(self, name: str) -> None:
        """Remove a destination from the gateway; ignore one that it does not have."""
        try:
            await self._send_request(RemoveDestination(name=name))
        except RequestRefusedError as error:
            if error.code != Code.UNKNOWN_DESTINATION:
                raise

    @override
    async def _save_destination(self, name: str) -> ConfigFlowResult:
        """Save the destination in the options."""
        return self._save_options({CONF_DESTINATIONS: list(dict.fromkeys([*self._destination_names, name]))})

    def _save_options(self, changed: dict[str, Any]) -> ConfigFlowResult:
        return self.async_create_entry(data={**self.config_entry.options, **changed})

    @property
    def _runtime(self) -> CosmosRuntime:
        entry: CosmosConfigEntry = self.config_entry
        return entry.runtime_data

    @property
    def _links(self) -> tuple[Link, ...]:
        status = self._runtime.status
        return status.links if status else ()

    @property
    def _link(self) -> Link | None:
        """The link of the selected destination; None if the gateway does not have it or has sent no status."""
        return next((link for link in self._links if link.name == self._chosen), None)

    @property
    @override
    def _destination_names(self) -> list[str]:
        """The destinations in the options, and any others that the gateway has."""
        return list(
            dict.fromkeys([*self.config_entry.options[CONF_DESTINATIONS], *(link.name for link in self._links)])
        )

    @property
    @override
    def _destination_labels(self) -> list[str]:
        """The labels of all other destinations that the gateway has."""
        return [label_of(link) for link in self._links if link.name != self._adding]

    def _line(self, name: str) -> str:
        """Return label, address and state of a destination in one line."""
        link = next((link for link in self._links if link.name == name), None)
        return f"{label_of(link)} ({link.address}): {state_name(self.hass, link)}" if link else name

    @property
    def _placeholders(self) -> dict[str, str]:
        """The placeholders that describe the selected destination."""
        status = self._runtime.status
        waiting = status.waiting if status else Waiting()
        link = self._link
        return {
            "destination": label_of(link) if link else self._chosen,
            "address": link.address if link else "-",
            "state": state_with_reason(self.hass, link) if link else "-",
            "waiting": str(waiting.urgent + waiting.change + waiting.reading),
        }


def _seconds(measured: float | None) -> str:
    return "?" if measured is None else f"{measured:.2f} s"
