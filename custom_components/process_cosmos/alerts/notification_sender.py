"""Sending of notifications: with buttons to phones, as plain messages to notify entities."""

import asyncio
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from homeassistant.components import persistent_notification
from homeassistant.components.notify import DOMAIN as NOTIFY_DOMAIN
from homeassistant.components.notify import SERVICE_SEND_MESSAGE
from homeassistant.config_entries import ConfigEntry
from homeassistant.const import ATTR_ENTITY_ID, STATE_UNAVAILABLE
from homeassistant.core import HomeAssistant, callback

from custom_components.process_cosmos.const import DOMAIN
from custom_components.process_cosmos.contract.identifiers import NOTIFY, PHONE
from custom_components.process_cosmos.texts import escaped

from . import phones
from .model import Alert
from .notification_results import HANDED_OVER, FailureCode, NotificationResult, failed
from .policy import PERSISTENT
from .push import async_push
from .recipients import notify_entity, phone_entry
from .service_failures import async_reason_of_failure

SEND_TIMEOUT = 30.0
"""Seconds after which an unfinished notification counts as failed."""


@dataclass(eq=False, repr=False)
class NotificationSender:
    """Hands notifications, titled like the site, over to phones, notify entities and Home Assistant's own list."""

    hass: HomeAssistant
    title: str
    on_result: Callable[[str, NotificationResult], None]

    async def async_notify(self, recipient: str, alert: Alert) -> NotificationResult:
        """Send the current revision of ``alert`` to ``recipient`` and return the result."""
        phone = recipient.removeprefix(PHONE)
        return await self._async_notify(
            recipient,
            alert.content.message,
            alert.id,
            lambda entry: phones.alert_notification(alert, self.title, phone, entry),
        )

    async def async_send_message(
        self, recipients: Iterable[str], message: str, tag: str
    ) -> Mapping[str, NotificationResult]:
        """Send a message without buttons and return the result of each recipient; ``tag``: what it replaces."""
        requested = tuple(recipients)

        def notification(entry: ConfigEntry) -> dict[str, Any]:
            return phones.plain_notification(self.title, message, tag, entry)

        results = await asyncio.gather(*(self._async_notify(one, message, tag, notification) for one in requested))
        return dict(zip(requested, results, strict=True))

    async def async_clear(self, recipients: Iterable[str], tag: str) -> None:
        """Remove the notification from Home Assistant and phones; messages of notify entities cannot be removed."""
        persistent_notification.async_dismiss(self.hass, _notification_id(tag))
        found = (phone_entry(self.hass, one.removeprefix(PHONE)) for one in recipients if one.startswith(PHONE))
        entries = {entry.entry_id: entry for entry in found if entry}.values()
        await asyncio.gather(*(self._async_phone(entry, phones.clear_command(tag)) for entry in entries))

    @callback
    def show_in_home_assistant(self, message: str, tag: str) -> None:
        """Show ``message`` in Home Assistant's notification list."""
        persistent_notification.async_create(self.hass, escaped(message), self.title, _notification_id(tag))

    async def _async_notify(
        self, recipient: str, message: str, tag: str, notification_fn: Callable[[ConfigEntry], dict[str, Any]]
    ) -> NotificationResult:
        if recipient.startswith(PHONE):
            entry = phone_entry(self.hass, recipient.removeprefix(PHONE))
            result = await self._async_phone(entry, notification_fn(entry)) if entry else failed(FailureCode.PHONE_GONE)
        elif recipient == PERSISTENT:
            self.show_in_home_assistant(message, tag)
            result = HANDED_OVER
        else:
            result = await self._async_entity(recipient.removeprefix(NOTIFY), message)
        self.on_result(recipient, result)
        return result

    async def _async_phone(self, entry: ConfigEntry, notification: dict[str, Any]) -> NotificationResult:
        return _result(await async_reason_of_failure(async_push(self.hass, entry, notification), SEND_TIMEOUT))

    async def _async_entity(self, entity: str, message: str) -> NotificationResult:
        entity_id = notify_entity(self.hass, entity)
        if entity_id is None:
            return failed(FailureCode.ENTITY_GONE)
        state = self.hass.states.get(entity_id)
        # Home Assistant skips unavailable entities without an error, so the call would count as handed over.
        if state is None or state.state == STATE_UNAVAILABLE:
            return failed(FailureCode.ENTITY_UNAVAILABLE)
        data = {ATTR_ENTITY_ID: entity_id, **phones.entity_message(self.title, message)}
        call = self.hass.services.async_call(NOTIFY_DOMAIN, SERVICE_SEND_MESSAGE, data, blocking=True)
        return _result(await async_reason_of_failure(call, SEND_TIMEOUT))


def _result(reason: str | None) -> NotificationResult:
    if reason is None:
        return HANDED_OVER
    known = reason in FailureCode
    return failed(FailureCode(reason) if known else FailureCode.NOTIFY_FAILED, "" if known else reason)


def _notification_id(tag: str) -> str:
    return f"{DOMAIN}_{tag}"
