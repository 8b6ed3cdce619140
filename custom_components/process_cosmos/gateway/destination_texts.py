"""User texts about a destination: label, state, reason of a failure and remedy."""

from homeassistant.core import HomeAssistant, callback

from custom_components.process_cosmos.contract.destinations import Link
from custom_components.process_cosmos.selector_texts import selector_text


def label_of(link: Link) -> str:
    """Return the label of the destination, or its name if it has none."""
    return link.label or link.name


@callback
def state_name(hass: HomeAssistant, link: Link) -> str:
    """Return the translated state of the link."""
    return selector_text(hass, "link_state", link.state) or link.state


@callback
def state_with_reason(hass: HomeAssistant, link: Link) -> str:
    """Return the translated state of the link, followed by the reason if there is one."""
    state = state_name(hass, link)
    return f"{state}. {reason_sentence(hass, link.reason)}" if link.reason else state


@callback
def reason_sentence(hass: HomeAssistant, reason: str) -> str:
    """Return the meaning of a reason code and its remedy in the server's language; an unknown code unchanged."""
    family = f"{reason[:6]}xx" if reason.startswith("http_") else reason
    sentence = selector_text(hass, "link_reason", reason) or selector_text(hass, "link_reason", family)
    return f"{sentence} ({reason})" if sentence else reason
