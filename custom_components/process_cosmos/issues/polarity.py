"""Asks what true means where the name of a property leaves it open."""

from collections.abc import Iterable, Mapping
from itertools import chain

from homeassistant.config_entries import ConfigEntry
from homeassistant.core import HomeAssistant

from custom_components.process_cosmos.contract.devices import Device, Hint
from custom_components.process_cosmos.texts import listed, quoted

from .site_issues import Issue, clear_issues, create_issue

_CHOICES: Mapping[Hint, str] = {Hint.VALVE: "`open` / `closed`", Hint.MOISTURE: "`wet` / `dry`"}


class PolarityIssue:
    """One repair issue of a site: it lists the properties that are not used until somebody says what true means.

    One for all, because whoever may publish at the broker can describe any number of devices.
    """

    def __init__(self, hass: HomeAssistant, entry: ConfigEntry) -> None:
        """Know of no device yet."""
        self._hass = hass
        self._entry = entry
        self._asked: dict[str, list[str]] = {}
        """What is asked, by the id of the device; devices without a doubt are left out."""

    def update_all(self, devices: Iterable[Device]) -> None:
        """Ask about ``devices``, all there are."""
        self._asked = {device.id: asked for device in devices if (asked := _asked(device))}
        self._show()

    def update_device(self, device_id: str, device: Device | None) -> None:
        """Ask about one device as it is now; None: it is gone."""
        asked = _asked(device) if device else []
        if asked != self._asked.get(device_id, []):
            self._asked.pop(device_id, None)
            if asked:
                self._asked[device_id] = asked
            self._show()

    def _show(self) -> None:
        if self._asked:
            properties = listed([*chain.from_iterable(self._asked.values())])
            create_issue(self._hass, self._entry, Issue.POLARITY_UNKNOWN, properties=properties)
        else:
            clear_issues(self._hass, self._entry, Issue.POLARITY_UNKNOWN)


def _asked(device: Device) -> list[str]:
    """Return what is asked of a device, a line of Markdown per property."""
    return [
        f"{quoted(device.title)}: {quoted(item.name)} ({_CHOICES[item.suggested_hint]})"
        for item in device.properties
        if item.suggested_hint in _CHOICES
    ]
