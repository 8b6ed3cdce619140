"""Numbers: writable number properties of devices."""

from typing import override

from homeassistant.components.number import NumberEntity, NumberMode

from .contract.devices import Property, PropertyKind
from .entity import PropertyEntity, property_platform

PARALLEL_UPDATES = 0

_UNLIMITED = 1e9
"""Limit of a property without one of its own; Home Assistant's defaults are 0 to 100."""


class PropertyNumber(PropertyEntity, NumberEntity):
    """A writable number property of a device."""

    _attr_mode = NumberMode.BOX

    @staticmethod
    @override
    def fits(item: Property) -> bool:
        """Return whether ``item`` is a writable number."""
        return item.kind is PropertyKind.NUMBER and item.writable

    @override
    def describe(self, item: Property) -> None:
        """Copy limits, step and unit from the description of the property."""
        self._attr_native_unit_of_measurement = item.unit
        # For an integer the gateway refuses fractions.
        self._attr_native_step = 1.0 if item.integer else 0.01
        self._attr_native_min_value = -_UNLIMITED if item.minimum is None else item.minimum
        self._attr_native_max_value = _UNLIMITED if item.maximum is None else item.maximum

    @property
    @override
    def native_value(self) -> float | None:
        """The newest reported value."""
        return float(self.reported) if isinstance(self.reported, int | float) else None

    @override
    async def async_set_native_value(self, value: float) -> None:
        """Write ``value`` to the device."""
        await self.async_write(value)


async_setup_entry = property_platform(PropertyNumber)
