"""Actions for permanently rejected events: list, send again, discard."""

from functools import partial
from typing import Any, Final

import probatio as vol
from homeassistant.core import HomeAssistant, ServiceCall, ServiceResponse, SupportsResponse, callback
from homeassistant.helpers import config_validation as cv
from homeassistant.helpers.service import async_register_admin_service

from custom_components.process_cosmos.const import DOMAIN
from custom_components.process_cosmos.contract.destinations import (
    DiscardRejected,
    ListRejected,
    RejectedEvent,
    RejectedEvents,
    SendAgain,
)
from custom_components.process_cosmos.gateway.destination_texts import label_of

from .site_lookup import async_find_coordinator

LIST_REJECTED: Final = "list_rejected"
SEND_AGAIN: Final = "send_again"
DISCARD_REJECTED: Final = "discard_rejected"

MOST_NUMBERS = 10_000
# The largest number that the wire and SQLite can represent.
_LARGEST = (1 << 63) - 1

_NUMBER = vol.All(vol.Coerce(int), vol.Range(min=0, max=_LARGEST))
_SITE: dict[Any, Any] = {vol.Optional("site"): cv.string}
_LIST_SCHEMA = vol.Schema({**_SITE, vol.Optional("after", default=0): _NUMBER})
# An empty list, for example from a template, must not mean all events: it is refused.
_NUMBERS = vol.All(cv.ensure_list, vol.Length(min=1, max=MOST_NUMBERS), [_NUMBER])
_SETTLE_SCHEMA = vol.Schema({**_SITE, vol.Optional("numbers"): _NUMBERS})


@callback
def async_setup_rejected(hass: HomeAssistant) -> None:
    """Register the actions for administrators and automations."""
    register = partial(async_register_admin_service, hass, DOMAIN)
    register(LIST_REJECTED, _async_list, _LIST_SCHEMA, supports_response=SupportsResponse.ONLY)
    register(SEND_AGAIN, partial(_async_settle, SendAgain), _SETTLE_SCHEMA)
    register(DISCARD_REJECTED, partial(_async_settle, DiscardRejected), _SETTLE_SCHEMA)


async def _async_list(call: ServiceCall) -> ServiceResponse:
    link = await async_find_coordinator(call.hass, call.data.get("site"))
    reply = await link.connection.async_request(ListRejected(after=call.data["after"]))
    events = reply.events if isinstance(reply, RejectedEvents) else ()
    labels = {each.name: label_of(each) for each in link.status.status.links} if link.status else {}
    return {"events": [_shown(event, labels.get(event.destination)) for event in events]}


async def _async_settle(request: type[SendAgain | DiscardRejected], call: ServiceCall) -> None:
    link = await async_find_coordinator(call.hass, call.data.get("site"))
    numbers = tuple(call.data["numbers"]) if "numbers" in call.data else None
    await link.connection.async_request(request(numbers=numbers))


def _shown(event: RejectedEvent, label: str | None) -> dict[str, Any]:
    return {
        "number": event.number,
        "id": event.event,
        "destination": event.destination,
        "label": label,
        "type": event.type,
        "subject": event.subject,
        "code": event.code,
        "message": event.message,
        "reply": event.reply,
        "attempts": event.attempts,
        "rejected_at": event.rejected_at.isoformat(),
    }
