"""Answers from phones: handling of pressed notification buttons."""

from collections.abc import Awaitable, Callable

from homeassistant.core import Context, Event, HomeAssistant, callback
from homeassistant.exceptions import HomeAssistantError

from custom_components.process_cosmos.actions.site_lookup import async_loaded_sites
from custom_components.process_cosmos.contract.identifiers import PHONE

from .decisions import AnswerRequest
from .engine import Alerts
from .model import Alert
from .phones import BUTTON_EVENT, Button, parse_button
from .recipients import phone_name

type Permission = Callable[[Context], Awaitable[Callable[[Alert], bool]]]


@callback
def listen_to_buttons(hass: HomeAssistant, async_allowed: Permission) -> None:
    """Process answers and acknowledgements from phones, for all sites, and notify the phone of a refusal."""

    async def async_pressed(event: Event) -> None:
        if (button := parse_button(event.data.get("action"))) and (site := await _async_site_of(hass, button)):
            await _async_settle(hass, site, button, await async_allowed(event.context))

    hass.bus.async_listen(BUTTON_EVENT, async_pressed)


async def _async_site_of(hass: HomeAssistant, button: Button) -> Alerts | None:
    """Return the site that rang; any other can still say that it does not know the alert."""
    sites = await async_loaded_sites(hass)
    return next((site for site in sites if site.get(button.alert)), sites[0] if sites else None)


async def _async_settle(hass: HomeAssistant, site: Alerts, button: Button, allowed: Callable[[Alert], bool]) -> None:
    request = AnswerRequest(
        alert=button.alert,
        answer=button.answer,
        by=phone_name(hass, button.phone) or f"{PHONE}{button.phone}",
        revision=button.revision,
        allowed=allowed,
    )
    try:
        await site.async_answer(request)
    except HomeAssistantError as error:
        await site.sender.async_send_message([f"{PHONE}{button.phone}"], str(error), f"{button.alert}-reply")
