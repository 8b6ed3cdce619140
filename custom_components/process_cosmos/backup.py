"""Home Assistant's own backup, which copies the memory of alerts while it is written to.

What is appended meanwhile does no harm: any beginning of the file is a valid memory. A file that is replaced by a
shorter one while it is read would fail the whole backup.
"""

from homeassistant.core import HomeAssistant

from .const import DOMAIN


async def async_pre_backup(hass: HomeAssistant) -> None:
    """Bring everything on disk, and let each file stand still but for what is appended."""
    for entry in hass.config_entries.async_loaded_entries(DOMAIN):
        await entry.runtime_data.alerts.async_begin_backup()


async def async_post_backup(hass: HomeAssistant) -> None:
    """Let what nobody needs be forgotten again."""
    for entry in hass.config_entries.async_loaded_entries(DOMAIN):
        entry.runtime_data.alerts.end_backup()
