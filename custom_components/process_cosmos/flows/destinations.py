"""Flow steps that add and test a destination, shared by the config flow and the options flow."""

from abc import abstractmethod
from collections.abc import Collection, Mapping
from typing import Any

from homeassistant.config_entries import ConfigEntryBaseFlow, ConfigFlowResult
from homeassistant.core import HomeAssistant

from custom_components.process_cosmos.contract.destinations import (
    ApproveReply,
    DestinationKind,
    DestinationTested,
    TestDestination,
)
from custom_components.process_cosmos.contract.messages import Request
from custom_components.process_cosmos.gateway.client import Reply
from custom_components.process_cosmos.gateway.destination_texts import reason_sentence
from custom_components.process_cosmos.texts import quoted

from . import forms
from .pairing_line import PastedLineError

_LONGEST_REPLY = 300


def test_placeholders(hass: HomeAssistant, label: str, tested: DestinationTested) -> Mapping[str, str]:
    """Return the placeholders that describe an unconfirmed test: meaning of the result and reply of the receiver."""
    status = f"HTTP {tested.status}" if tested.status else ""
    reply = ": ".join(part for part in (status, quoted(tested.reply, _LONGEST_REPLY)) if part)
    return {
        "destination": label,
        "meaning": reason_sentence(hass, tested.reason or "unknown"),
        "reply": reply or "-",
    }


class AddDestinationSteps(ConfigEntryBaseFlow):
    """A flow that can add a destination: set at the gateway first, then tested, then saved by the flow."""

    _adding: str | None = None
    """The name of the destination that is set at the gateway, but not saved yet."""
    _label = ""
    _typed: Mapping[str, Any] | None = None
    _tested: DestinationTested
    """The result of the last test."""
    _tested_name = ""

    @abstractmethod
    async def _send_request(self, request: Request) -> Reply:
        """Send a request to the gateway and return its reply; raise ``GatewayError``."""

    @abstractmethod
    async def _save_destination(self, name: str) -> ConfigFlowResult:
        """Save the destination and continue with the next step."""

    @property
    @abstractmethod
    def _destination_names(self) -> Collection[str]:
        """The names already in use."""

    @property
    @abstractmethod
    def _destination_labels(self) -> Collection[str]:
        """The labels already in use."""

    async def async_step_webhook(self, user_input: dict[str, Any] | None = None) -> ConfigFlowResult:
        """Ask for the address of a webhook, then test it."""
        return await self._add_destination(DestinationKind.WEBHOOK, user_input)

    async def async_step_cloud(self, user_input: dict[str, Any] | None = None) -> ConfigFlowResult:
        """Ask for the one-time code of a cloud endpoint. The enrolment is the test."""
        return await self._add_destination(DestinationKind.CLOUD, user_input)

    async def async_step_unconfirmed(self, _: dict[str, Any] | None = None) -> ConfigFlowResult:
        """Report that the new webhook did not confirm the test event, and ask what to do."""
        return self.async_show_menu(
            step_id="unconfirmed",
            menu_options=["webhook", *(["approve"] if self._tested.approvable else []), "keep"],
            description_placeholders=dict(test_placeholders(self.hass, self._label, self._tested)),
        )

    async def async_step_approve(self, _: dict[str, Any] | None = None) -> ConfigFlowResult:
        """Approve the shown reply as a confirmation of the receiver, and test again."""
        request = ApproveReply(name=self._tested_name, digest=str(self._tested.digest))
        await forms.try_request(
            "approve", lambda: self._send_request(request)
        )  # the test shows whether the reply is accepted now
        return await self._test_added()

    async def async_step_keep(self, _: dict[str, Any] | None = None) -> ConfigFlowResult:
        """Save the webhook although it did not confirm the test event."""
        return await self._finish_adding(str(self._adding))

    async def _add_destination(self, kind: DestinationKind, user_input: dict[str, Any] | None) -> ConfigFlowResult:
        errors: dict[str, str] = {}
        if user_input is not None:
            self._typed, errors = forms.encode_url_field(user_input)
            errors = errors or await self._set_destination(kind, self._typed)
            if not errors:
                name = str(self._adding)
                is_webhook = kind is DestinationKind.WEBHOOK
                return await (self._test_added() if is_webhook else self._finish_adding(name))
        schema = self.add_suggested_values_to_schema(forms.DESTINATIONS[kind], self._typed)
        return self.async_show_form(step_id=kind, data_schema=schema, errors=errors)

    async def _set_destination(self, kind: DestinationKind, answer: Mapping[str, Any]) -> dict[str, str]:
        """Set the destination at the gateway; return the errors of the form."""
        try:
            label = forms.choose_label(kind, answer, self._destination_labels)
        except PastedLineError as error:
            return forms.form_errors(kind, error.code)
        if label in self._destination_labels:
            return {forms.CONF_LABEL: forms.LABEL_TAKEN}
        # A second attempt changes the destination of the first, which is already set at the gateway.
        name = self._adding or forms.choose_name(kind, self._destination_names)
        request = forms.destination_request(kind, answer, name, label)
        _, errors = await forms.try_request(kind, lambda: self._send_request(request))
        if not errors:
            # From here on a closed dialog has something to remove from the gateway.
            self._adding, self._label = name, label
        return errors

    async def _test_added(self) -> ConfigFlowResult:
        """Test the added destination: save it if the test is confirmed or impossible, otherwise ask what to do."""
        name = str(self._adding)
        tested, _ = await self._request_test(name)
        if tested is None or tested.delivered:
            return await self._finish_adding(
                name
            )  # an app that disconnected, or is too old for tests, has stored it nevertheless
        return await self.async_step_unconfirmed()

    async def _request_test(self, name: str) -> tuple[DestinationTested | None, str]:
        """Have the gateway send a test event; return the result, or None and the error code if nothing was sent."""
        self._tested_name = name
        request = TestDestination(name=name)
        tested, errors = await forms.try_request("test", lambda: self._send_request(request))
        if not isinstance(tested, DestinationTested):
            return None, errors.get("base", "unknown")
        self._tested = tested
        return tested, ""

    async def _finish_adding(self, name: str) -> ConfigFlowResult:
        # Before saving: when the flow ends, ``async_remove`` removes from the gateway what stands here.
        self._adding = self._typed = None
        return await self._save_destination(name)
