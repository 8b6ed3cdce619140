"""Tells people: phones with buttons, notify entities with a message."""

import asyncio
from collections.abc import Iterable
from typing import Any

from homeassistant.components.notify import DOMAIN as NOTIFY_DOMAIN
from homeassistant.components.notify import SERVICE_SEND_MESSAGE
from homeassistant.const import ATTR_ENTITY_ID, STATE_UNAVAILABLE
from homeassistant.core import HomeAssistant

from custom_components.process_cosmos.const import LOGGER
from custom_components.process_cosmos.contract.identifiers import NOTIFY, PHONE

from . import phones
from .foreign import async_reason_of_failure
from .model import Escalation

TELL_WITHIN = 30.0
"""Seconds until a notify action that hangs counts as not reached."""


class Telling:
    """Hands tells over to notify actions. A phone's success means *handed over*: only an answer proves more."""

    def __init__(self, hass: HomeAssistant, title: str) -> None:
        """Take the title people see: the site's."""
        self._hass = hass
        self._title = title
        self._missed: set[str] = set()

    async def async_tell(self, recipient: str, escalation: Escalation) -> bool:
        """Tell ``recipient`` of the newest ring; return whether it was handed over."""
        if recipient.startswith(PHONE):
            device_id = recipient.removeprefix(PHONE)
            return await self._async_phone(device_id, phones.ring_notification(escalation, self._title, device_id))
        return await self._async_entity(recipient.removeprefix(NOTIFY), escalation.content.message)

    async def async_notice(self, recipients: Iterable[str], message: str, tag: str) -> bool:
        """Say something that needs no answer, beside the escalation's notification; say whether it reached anybody."""
        told = await asyncio.gather(*(self._async_notice(recipient, message, tag) for recipient in recipients))
        return any(told)

    async def async_clear(self, recipients: Iterable[str], tag: str) -> None:
        """Take the notification away from the phones among ``recipients``; a message of an entity cannot be."""
        devices = [one.removeprefix(PHONE) for one in recipients if one.startswith(PHONE)]
        await asyncio.gather(*(self._async_phone(device, phones.clearing(tag)) for device in devices))

    async def _async_notice(self, recipient: str, message: str, tag: str) -> bool:
        if recipient.startswith(PHONE):
            notification = phones.plain_notification(self._title, message, tag)
            return await self._async_phone(recipient.removeprefix(PHONE), notification)
        return await self._async_entity(recipient.removeprefix(NOTIFY), message)

    async def _async_phone(self, device_id: str, data: dict[str, Any]) -> bool:
        action = phones.notify_action(self._hass, device_id)
        if action is None:
            return self._missing(device_id, "phone_not_reached: no notify action")
        return await self._async_call(action, data, device_id)

    async def _async_entity(self, entity_id: str, message: str) -> bool:
        state = self._hass.states.get(entity_id)
        if state is None or state.state == STATE_UNAVAILABLE:
            return self._missing(entity_id, "notify_entity_not_reached: unavailable")
        data = {ATTR_ENTITY_ID: entity_id, "message": message, "title": self._title}
        return await self._async_call(SERVICE_SEND_MESSAGE, data, entity_id)

    async def _async_call(self, action: str, data: dict[str, Any], whom: str) -> bool:
        call = self._hass.services.async_call(NOTIFY_DOMAIN, action, data, blocking=True)
        reason = await async_reason_of_failure(call, TELL_WITHIN)
        if reason is not None:
            return self._missing(whom, f"tell_failed: {reason}")
        self._missed.discard(whom)
        return True

    def _missing(self, whom: str, reason: str) -> bool:
        """Log the first of a row of failures: tries go on every minute."""
        if whom not in self._missed:
            self._missed.add(whom)
            LOGGER.warning("%s (%s)", reason, phones.phone_name(self._hass, whom) or whom)
        return False
