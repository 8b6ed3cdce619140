"""Entries of Process Cosmos on the system information page."""

from typing import Any

from homeassistant.components.system_health import SystemHealthRegistration
from homeassistant.core import HomeAssistant, callback

from .const import DOMAIN, VERSION
from .data import CosmosConfigEntry


@callback
def async_register(hass: HomeAssistant, register: SystemHealthRegistration) -> None:  # noqa: ARG001 - its signature
    """Register the callback that collects the entries."""
    register.async_register_info(_info)


async def _info(hass: HomeAssistant) -> dict[str, Any]:
    entries: list[CosmosConfigEntry] = hass.config_entries.async_loaded_entries(DOMAIN)
    gateways = [entry.runtime_data.coordinator for entry in entries if entry.runtime_data.coordinator]
    statuses = [gateway.status.status for gateway in gateways if gateway.status]
    return {
        "version": VERSION,
        "sites": len(entries),
        "gateways_connected": f"{sum(bool(gateway.connection.session) for gateway in gateways)} / {len(gateways)}",
        "open_alerts": sum(len(entry.runtime_data.alerts.alive) for entry in entries),
        "events_waiting": sum(
            status.waiting.urgent + status.waiting.change + status.waiting.reading for status in statuses
        ),
        "events_rejected": sum(status.rejected for status in statuses),
        "events_dropped": sum(status.dropped for status in statuses),
        "storage": ", ".join(status.storage for status in statuses) or "-",
    }
