"""Asks what true means where the name of a property leaves it open."""

from collections.abc import Iterable, Mapping

from homeassistant.config_entries import ConfigEntry
from homeassistant.core import HomeAssistant

from .contract.devices import Device, Hint
from .contract.identifiers import join_names
from .issues import Issue, clear_issues_but, create_issue

_CHOICES: Mapping[Hint, tuple[str, str]] = {Hint.VALVE: ("open", "closed"), Hint.MOISTURE: ("wet", "dry")}


def show_polarity(hass: HomeAssistant, entry: ConfigEntry, devices: Iterable[Device]) -> None:
    """Show a repair issue for each property of ``devices``, all there are, that is not used until somebody says so."""
    asked = {
        join_names(device.id, item.name): (device, item)
        for device in devices
        for item in device.properties
        if item.suggested_hint in _CHOICES
    }
    for about, (device, item) in asked.items():
        first, second = _CHOICES[item.suggested_hint]
        create_issue(
            hass,
            entry,
            Issue.POLARITY_UNKNOWN,
            about=about,
            device=device.title,
            property=item.name,
            first=first,
            second=second,
        )
    clear_issues_but(hass, entry, Issue.POLARITY_UNKNOWN, asked)
