"""Lookup of the site that an action or a notification button refers to."""

import asyncio
import contextlib

from homeassistant.config_entries import ConfigEntryState
from homeassistant.core import HomeAssistant
from homeassistant.exceptions import ServiceValidationError
from homeassistant.helpers.service import async_get_config_entry

from custom_components.process_cosmos.alerts.engine import Alerts
from custom_components.process_cosmos.const import DOMAIN
from custom_components.process_cosmos.coordinator import CosmosCoordinator
from custom_components.process_cosmos.data import CosmosConfigEntry

READY_WITHIN = 30.0
"""Seconds that an action waits for a site that is being set up, reloaded or unloaded."""


async def async_find_entry(hass: HomeAssistant, site: str | None) -> CosmosConfigEntry:
    """Return the entry with this id, or the oldest loaded one; raise Home Assistant's error if it is not loaded."""
    entries: list[CosmosConfigEntry] = hass.config_entries.async_entries(DOMAIN)
    entries.sort(key=lambda entry: entry.created_at)
    for entry in entries:
        if site in (None, entry.entry_id) and await _async_is_loaded(entry):
            return entry
    missing = entries[0].entry_id if site is None and entries else site
    found: CosmosConfigEntry = async_get_config_entry(hass, DOMAIN, missing)
    return found


async def async_find_site(hass: HomeAssistant, site: str | None) -> Alerts:
    """Return the alerts of the site that ``async_find_entry`` finds."""
    return _alerts(await async_find_entry(hass, site))


async def async_find_coordinator(hass: HomeAssistant, site: str | None) -> CosmosCoordinator:
    """Return the coordinator of the site with this entry id, or of the only site with the app.

    Raises ``ServiceValidationError`` if there is none or more than one.
    """
    entries: list[CosmosConfigEntry] = hass.config_entries.async_entries(DOMAIN)
    loaded = [entry for entry in entries if site in (None, entry.entry_id) and await _async_is_loaded(entry)]
    links = [link for entry in loaded if (link := entry.runtime_data.coordinator)]
    if site is not None and not loaded:
        async_get_config_entry(hass, DOMAIN, site)  # raises with the reason
    if len(links) != 1:
        key = "several_sites" if links else "no_app"
        raise ServiceValidationError(translation_domain=DOMAIN, translation_key=key)
    return links[0]


async def async_loaded_sites(hass: HomeAssistant) -> list[Alerts]:
    """Return the alerts of all sites, after waiting for those that are being set up."""
    return [_alerts(entry) for entry in hass.config_entries.async_entries(DOMAIN) if await _async_is_loaded(entry)]


async def _async_is_loaded(entry: CosmosConfigEntry) -> bool:
    """Wait until ``entry`` is neither being loaded nor unloaded; return whether it is loaded."""
    with contextlib.suppress(TimeoutError):
        # Home Assistant holds this lock during set-up, reload and unload; an alert at that moment has to wait.
        async with asyncio.timeout(READY_WITHIN), entry.setup_lock:
            pass
    return entry.state is ConfigEntryState.LOADED


def _alerts(entry: CosmosConfigEntry) -> Alerts:
    return entry.runtime_data.alerts
