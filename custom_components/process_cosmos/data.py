"""Runtime data of a loaded config entry."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from homeassistant.config_entries import ConfigEntry

# At run time this would be circular: modules of ``alerts`` import this one.
if TYPE_CHECKING:
    from .alerts.engine import Alerts
    from .coordinator import CosmosCoordinator


@dataclass(frozen=True, slots=True, kw_only=True)
class CosmosRuntime:
    """The alerts and the gateway connection of one site; ``coordinator`` is None without the app."""

    alerts: Alerts
    coordinator: CosmosCoordinator | None


type CosmosConfigEntry = ConfigEntry[CosmosRuntime]
