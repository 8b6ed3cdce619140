"""Hooks of Home Assistant's backup, which copies the record log while it is written to.

Appending during the copy is harmless: any prefix of the file is a valid record log. Replacing the file with a shorter
one while it is read would make the whole backup fail.
"""

from homeassistant.core import HomeAssistant

from .const import DOMAIN


async def async_pre_backup(hass: HomeAssistant) -> None:
    """Write queued records to disk and suspend compaction of the record logs."""
    for entry in hass.config_entries.async_loaded_entries(DOMAIN):
        await entry.runtime_data.alerts.async_begin_backup()


async def async_post_backup(hass: HomeAssistant) -> None:
    """Allow compaction of the record logs again."""
    for entry in hass.config_entries.async_loaded_entries(DOMAIN):
        entry.runtime_data.alerts.end_backup()
