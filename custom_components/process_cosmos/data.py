"""Runtime data of a loaded config entry."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from homeassistant.config_entries import ConfigEntry, ConfigEntryState

# At run time this would be circular: modules of ``alerts`` import this one.
if TYPE_CHECKING:
    from .alerts.engine import Alerts
    from .contract.destinations import Status
    from .coordinator import CosmosCoordinator


@dataclass(frozen=True, slots=True, kw_only=True)
class CosmosRuntime:
    """The alerts and the gateway connection of one site; ``coordinator`` is None without the app."""

    alerts: Alerts
    coordinator: CosmosCoordinator | None

    @property
    def status(self) -> Status | None:
        """The newest status of the gateway; None without one."""
        return self.coordinator.status.status if self.coordinator and self.coordinator.status else None


type CosmosConfigEntry = ConfigEntry[CosmosRuntime]


def loaded_runtime(entry: CosmosConfigEntry | None) -> CosmosRuntime | None:
    """Return the runtime data of ``entry``; None if it is not loaded or was removed."""
    return entry.runtime_data if entry and entry.state is ConfigEntryState.LOADED else None
