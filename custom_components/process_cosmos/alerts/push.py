"""Push notifications to phones with a known outcome.

The notify action of ``mobile_app`` logs errors of its push service instead of raising them. So this module calls its
private function, which raises, and its local push channel. Neither is public:
tests/home_assistant/alerts/test_push_contract.py fails when Home Assistant changes one of them.
"""

import asyncio
import inspect
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from aiohttp import ClientResponseError
from homeassistant.components.notify import DOMAIN as NOTIFY_DOMAIN
from homeassistant.config_entries import ConfigEntry
from homeassistant.core import HomeAssistant, callback
from homeassistant.exceptions import HomeAssistantError
from homeassistant.helpers.aiohttp_client import async_get_clientsession
from homeassistant.helpers.dispatcher import async_dispatcher_send

from custom_components.process_cosmos.const import DOMAIN
from custom_components.process_cosmos.errors import CosmosError

from .notification_results import FailureCode
from .recipients import MOBILE_APP

MAX_PAYLOAD = 3500
"""Most bytes of JSON in a request: push services accept 4,096, including fields they add themselves."""

_RECORDED = f"{MOBILE_APP}_record_notification"
_CODES: Mapping[str | None, FailureCode] = {
    "rate_limit_exceeded_sending_notification": FailureCode.PUSH_LIMITED,
    "timeout_sending_notification": FailureCode.PUSH_UNREACHABLE,
}

type _SendFn = Callable[[Any, ConfigEntry, dict[str, Any]], Awaitable[None]]


class PushFailedError(CosmosError, HomeAssistantError):
    """A notification was not handed over."""

    def __init__(self, code: FailureCode) -> None:
        """Build the error from ``code``, which is also the translation key."""
        super().__init__(translation_domain=DOMAIN, translation_key=code)


async def async_push(hass: HomeAssistant, entry: ConfigEntry, notification: Mapping[str, Any]) -> None:
    """Send ``notification`` to the phone registered by ``entry``: by its local channel, otherwise by its push service.

    Waits up to 10 s for the local channel and 10 s for the push service. A local channel without confirmations counts
    as handed over. Raises ``PushFailedError`` and any exception of the ``mobile_app`` integration.
    """
    webhook_id = entry.data["webhook_id"]
    channel = hass.data.get(MOBILE_APP, {}).get("push_channel", {}).get(webhook_id)
    unsent = await _async_push_locally(channel, dict(notification)) if channel else dict(notification)
    if unsent is not None:
        await _async_push_remotely(hass, entry, unsent)
    async_dispatcher_send(hass, _RECORDED, webhook_id)


def push_payload(entry: ConfigEntry, notification: Mapping[str, Any]) -> dict[str, Any]:
    """Return the largest request body for a push service: with the confirmation id of an unconfirmed local push."""
    data = entry.data
    about = {key: data[key] for key in ("app_id", "app_version", "webhook_id", "os_version") if key in data}
    return {
        **notification,
        "hass_confirm_id": "0" * 32,
        "push_token": data.get("app_data", {}).get("push_token", ""),
        "registration_info": about,
    }


async def _async_push_locally(channel: Any, notification: dict[str, Any]) -> dict[str, Any] | None:  # noqa: ANN401 - Home Assistant's PushChannel, which cannot be imported before it is loaded
    """Send by the local channel; return the notification to post if the phone did not confirm it, otherwise None."""
    unconfirmed: asyncio.Future[dict[str, Any] | None] = asyncio.get_running_loop().create_future()

    async def fall_back(data: dict[str, Any]) -> None:
        if not unconfirmed.done():
            unconfirmed.set_result(data)

    channel.async_send_notification(notification, fall_back)
    pending = channel.pending_confirms.get(notification.get("hass_confirm_id"))
    if pending is None:
        return None
    cancel_timer = pending["unsub_scheduled_push_failed"]

    @callback
    def confirmed() -> None:
        cancel_timer()
        if not unconfirmed.done():
            unconfirmed.set_result(None)

    # The channel has no callback for a confirmation; it only cancels this timer.
    pending["unsub_scheduled_push_failed"] = confirmed
    return await unconfirmed


async def _async_push_remotely(hass: HomeAssistant, entry: ConfigEntry, notification: dict[str, Any]) -> None:
    if "push_url" not in entry.data.get("app_data", {}):
        raise PushFailedError(FailureCode.PHONE_NOT_CONNECTED)
    send = _send_fn()
    if send is None:
        await _async_call_action(hass, entry, notification)
        return
    try:
        await send(async_get_clientsession(hass), entry, notification)
    except HomeAssistantError as error:
        # Home Assistant raises the same type for a refusal and for a failed connection; only the cause differs.
        replied = error.__cause__ is None or isinstance(error.__cause__, ClientResponseError)
        default = FailureCode.PUSH_REFUSED if replied else FailureCode.PUSH_UNREACHABLE
        raise PushFailedError(_CODES.get(error.translation_key, default)) from error


def _send_fn() -> _SendFn | None:
    """Return the private send function of ``mobile_app``; None if Home Assistant changed it."""
    try:
        # Imported here because it needs packages that only its own set-up installs.
        from homeassistant.components.mobile_app import notify  # noqa: PLC0415 - see above

        send: _SendFn = notify._send_message  # noqa: SLF001 - the public action swallows failures
        # A changed signature must not prevent the notification: the public action is used instead.
        inspect.signature(send).bind(None, None, None)
    except AttributeError, ImportError, TypeError:
        return None
    return send


async def _async_call_action(hass: HomeAssistant, entry: ConfigEntry, notification: dict[str, Any]) -> None:
    """Notify by the public action, whose failures are unknown; used only if the private function has changed."""
    from homeassistant.components.mobile_app.util import (  # noqa: PLC0415 - as above
        get_notify_service,
    )

    action = get_notify_service(hass, entry.data["webhook_id"])
    if action is None:
        raise PushFailedError(FailureCode.PHONE_NOT_CONNECTED)
    data = {key: value for key, value in notification.items() if key != "hass_confirm_id"}
    await hass.services.async_call(NOTIFY_DOMAIN, action, data, blocking=True)
