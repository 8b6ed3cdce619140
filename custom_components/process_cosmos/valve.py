"""Valves: writable boolean properties that the description marks as a valve; true means open."""

from typing import override

from homeassistant.components.valve import ValveEntity, ValveEntityFeature

from .contract.devices import Device, Hint, Property, PropertyKind
from .coordinator import CosmosCoordinator
from .entity import PropertyEntity, property_platform

# Unlimited: a limit would also count actions, and one device that hangs would delay the writes to all others.
PARALLEL_UPDATES = 0


class PropertyValve(PropertyEntity, ValveEntity):
    """A valve with two states, open and closed."""

    _attr_reports_position = False
    _attr_supported_features = ValveEntityFeature.OPEN | ValveEntityFeature.CLOSE

    def __init__(self, coordinator: CosmosCoordinator, device: Device, item: Property) -> None:
        """Name the valve after its device if it is the only one there."""
        super().__init__(coordinator, device, item)
        if [each.hint for each in device.properties].count(Hint.VALVE) == 1:
            self._attr_name = None  # the device is the valve

    @staticmethod
    @override
    def fits(item: Property) -> bool:
        """Return whether ``item`` is a writable boolean that is a valve."""
        return item.kind is PropertyKind.BOOLEAN and item.writable and item.hint is Hint.VALVE

    @property
    @override
    def is_closed(self) -> bool | None:
        """Whether the newest reported value is closed."""
        return None if self.reported is None else self.reported is False

    @override
    async def async_open_valve(self) -> None:
        """Write true, which opens the valve."""
        await self.async_write(value=True)

    @override
    async def async_close_valve(self) -> None:
        """Write false, which closes the valve."""
        await self.async_write(value=False)


async_setup_entry = property_platform(PropertyValve)
