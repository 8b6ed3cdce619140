"""Texts in the language of the server, stored in the translations as options of selectors."""

from homeassistant.core import HomeAssistant, callback
from homeassistant.helpers.translation import async_get_cached_translations

from .const import DOMAIN


@callback
def selector_text(hass: HomeAssistant, selector: str, option: str, **placeholders: object) -> str | None:
    """Return the text of an option with placeholders filled in; None if it has no translation."""
    texts = async_get_cached_translations(hass, hass.config.language, "selector", DOMAIN)
    text = texts.get(f"component.{DOMAIN}.selector.{selector}.options.{option}")
    return text.format(**placeholders) if text and placeholders else text
