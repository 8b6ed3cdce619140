"""Switches: writable boolean properties of devices, other than valves."""

from typing import Any, override

from homeassistant.components.switch import SwitchEntity

from .contract.devices import Hint, Property, PropertyKind
from .entity import PropertyEntity, property_platform

PARALLEL_UPDATES = 0


class PropertySwitch(PropertyEntity, SwitchEntity):
    """A writable boolean property of a device."""

    @staticmethod
    @override
    def fits(item: Property) -> bool:
        """Return whether ``item`` is a writable boolean other than a valve."""
        return item.kind is PropertyKind.BOOLEAN and item.writable and item.hint is not Hint.VALVE

    @property
    @override
    def is_on(self) -> bool | None:
        """The newest reported value."""
        return None if self.reported is None else self.reported is True

    @override
    async def async_turn_on(self, **kwargs: Any) -> None:
        """Write true to the device."""
        await self.async_write(value=True)

    @override
    async def async_turn_off(self, **kwargs: Any) -> None:
        """Write false to the device."""
        await self.async_write(value=False)


async_setup_entry = property_platform(PropertySwitch)
