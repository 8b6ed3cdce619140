"""Booleans a Thing reports and nobody can write."""

from dataclasses import dataclass
from typing import override

from homeassistant.components.binary_sensor import (
    BinarySensorDeviceClass,
    BinarySensorEntity,
    BinarySensorEntityDescription,
)
from homeassistant.core import HomeAssistant
from homeassistant.helpers.entity_platform import AddConfigEntryEntitiesCallback

from .contract.devices import Hint, Property, PropertyKind
from .data import CosmosConfigEntry
from .entity import PropertyDescription, PropertyEntity, add_properties

PARALLEL_UPDATES = 0


def _reads(item: Property) -> bool:
    return item.kind is PropertyKind.BOOLEAN and not item.writable


@dataclass(frozen=True, kw_only=True)
class ThingBinarySensorDescription(PropertyDescription, BinarySensorEntityDescription):
    """A row of binary sensors."""


BINARY_SENSORS = (
    ThingBinarySensorDescription(
        key="moisture",
        device_class=BinarySensorDeviceClass.MOISTURE,
        fits_fn=lambda item: _reads(item) and item.hint is Hint.MOISTURE,
    ),
    ThingBinarySensorDescription(key="boolean", fits_fn=lambda item: _reads(item) and item.hint is not Hint.MOISTURE),
)


async def async_setup_entry(
    hass: HomeAssistant,  # noqa: ARG001 - Home Assistant's signature
    entry: CosmosConfigEntry,
    async_add_entities: AddConfigEntryEntitiesCallback,
) -> None:
    """Add those of all Things."""
    add_properties(entry, async_add_entities, ThingBinarySensor)


class ThingBinarySensor(PropertyEntity, BinarySensorEntity):
    """A boolean of a Thing."""

    entity_description: ThingBinarySensorDescription
    rows = BINARY_SENSORS

    @property
    @override
    def is_on(self) -> bool | None:
        """The newest value."""
        return None if self.reported is None else self.reported is True
