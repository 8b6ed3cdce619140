"""Repair issue for properties whose names do not say what true means."""

from collections.abc import Iterable, Mapping
from itertools import chain

from homeassistant.config_entries import ConfigEntry
from homeassistant.core import HomeAssistant

from custom_components.process_cosmos.contract.devices import Device, Hint
from custom_components.process_cosmos.texts import listed, quoted

from .site_issues import Issue, show_issue

_CHOICES: Mapping[Hint, str] = {Hint.VALVE: "`open` / `closed`", Hint.MOISTURE: "`wet` / `dry`"}


class PolarityIssue:
    """The repair issue of a site that lists the properties which cannot be used until it is clear what true means.

    There is one issue for all devices, because any client of the broker can publish any number of descriptions.
    """

    def __init__(self, hass: HomeAssistant, entry: ConfigEntry) -> None:
        """Start without devices."""
        self._hass = hass
        self._entry = entry
        self._unclear: dict[str, list[str]] = {}
        """Unclear properties by device id; without devices that have none."""

    def update_all(self, devices: Iterable[Device]) -> None:
        """Update the issue for the complete list of devices."""
        self._unclear = {device.id: unclear for device in devices if (unclear := _unclear_properties(device))}
        self._show()

    def update_device(self, device_id: str, device: Device | None) -> None:
        """Update the issue for one device; None: it was removed."""
        unclear = _unclear_properties(device) if device else []
        if unclear != self._unclear.get(device_id, []):
            self._unclear.pop(device_id, None)
            if unclear:
                self._unclear[device_id] = unclear
            self._show()

    def _show(self) -> None:
        properties = listed([*chain.from_iterable(self._unclear.values())])
        show_issue(self._hass, self._entry, Issue.POLARITY_UNKNOWN, {"properties": properties} if properties else None)


def _unclear_properties(device: Device) -> list[str]:
    """Return the unclear properties of a device, one line of Markdown each."""
    return [
        f"{quoted(device.title)}: {quoted(item.name)} ({_CHOICES[item.suggested_hint]})"
        for item in device.properties
        if item.suggested_hint in _CHOICES
    ]
