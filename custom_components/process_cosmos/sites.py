"""Which site an action or a phone's button means."""

import asyncio
import contextlib

from homeassistant.config_entries import ConfigEntryState
from homeassistant.core import HomeAssistant
from homeassistant.helpers.service import async_get_config_entry

from .const import DOMAIN
from .data import CosmosConfigEntry
from .escalations.engine import Escalations

READY_WITHIN = 30.0
"""Seconds an action waits for a site that is being set up, reloaded or unloaded: options are changed at any time."""


async def async_site_called(hass: HomeAssistant, site: str | None) -> Escalations:
    """Return the site of this entry id, without one the oldest. Raise Home Assistant's error if it is not loaded."""
    entries = sorted(hass.config_entries.async_entries(DOMAIN), key=lambda entry: entry.created_at)
    for entry in entries:
        if site in (None, entry.entry_id) and await _async_is_loaded(entry):
            return _escalations(entry)
    missing = entries[0].entry_id if site is None and entries else site
    return _escalations(async_get_config_entry(hass, DOMAIN, missing))


async def async_sites(hass: HomeAssistant) -> list[Escalations]:
    """Return all sites that are loaded, or will be in a moment."""
    return [_escalations(entry) for entry in hass.config_entries.async_entries(DOMAIN) if await _async_is_loaded(entry)]


async def _async_is_loaded(entry: CosmosConfigEntry) -> bool:
    """Say whether ``entry`` is loaded, once nobody loads or unloads it."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(READY_WITHIN), entry.setup_lock:
            pass
    return entry.state is ConfigEntryState.LOADED


def _escalations(entry: CosmosConfigEntry) -> Escalations:
    return entry.runtime_data.escalations
