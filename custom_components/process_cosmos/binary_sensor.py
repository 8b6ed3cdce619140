"""Booleans a device reports and nobody can write, and whether the MQTT broker is there."""

from dataclasses import dataclass
from typing import Any, override

from homeassistant.components.binary_sensor import (
    BinarySensorDeviceClass,
    BinarySensorEntity,
    BinarySensorEntityDescription,
)
from homeassistant.const import EntityCategory
from homeassistant.core import HomeAssistant
from homeassistant.helpers.entity_platform import AddConfigEntryEntitiesCallback

from .contract.devices import Hint, Property, PropertyKind
from .data import CosmosConfigEntry
from .entity import PropertyDescription, PropertyEntity, StatusEntity, add_property_entities

PARALLEL_UPDATES = 0


def _reads(item: Property) -> bool:
    return item.kind is PropertyKind.BOOLEAN and not item.writable


@dataclass(frozen=True, kw_only=True)
class PropertyBinarySensorDescription(PropertyDescription, BinarySensorEntityDescription):
    """A row of binary sensors."""


BINARY_SENSORS = (
    PropertyBinarySensorDescription(
        key="moisture",
        device_class=BinarySensorDeviceClass.MOISTURE,
        fits_fn=lambda item: _reads(item) and item.hint is Hint.MOISTURE,
    ),
    PropertyBinarySensorDescription(
        key="boolean", fits_fn=lambda item: _reads(item) and item.hint is not Hint.MOISTURE
    ),
)

BROKER = BinarySensorEntityDescription(
    key="broker",
    translation_key="broker",
    device_class=BinarySensorDeviceClass.CONNECTIVITY,
    entity_category=EntityCategory.DIAGNOSTIC,
)


async def async_setup_entry(
    hass: HomeAssistant,  # noqa: ARG001 - Home Assistant's signature
    entry: CosmosConfigEntry,
    async_add_entities: AddConfigEntryEntitiesCallback,
) -> None:
    """Add those of all devices, and the broker's where there is the app."""
    add_property_entities(entry, async_add_entities, PropertyBinarySensor)
    if (coordinator := entry.runtime_data.coordinator) is not None:
        async_add_entities([BrokerSensor(coordinator, BROKER)])


class BrokerSensor(StatusEntity, BinarySensorEntity):
    """Whether the gateway is connected to the MQTT broker; unavailable at a site that has none."""

    @property
    @override
    def available(self) -> bool:
        """Whether the gateway has said that there is a broker."""
        status = self.coordinator.status
        return super().available and status is not None and (status.status.broker is not None or bool(self.is_on))

    @property
    @override
    def is_on(self) -> bool | None:
        """Whether devices can be heard and written to."""
        return None if self.coordinator.status is None else self.coordinator.status.status.broker_connected

    @property
    @override
    def extra_state_attributes(self) -> dict[str, Any] | None:
        """Why it is away, and the version of MQTT that is spoken."""
        status = self.coordinator.status
        broker = None if status is None else status.status.broker
        return None if broker is None else {"reason": broker.reason, "mqtt_version": broker.version}


class PropertyBinarySensor(PropertyEntity, BinarySensorEntity):
    """A boolean of a device."""

    entity_description: PropertyBinarySensorDescription
    rows = BINARY_SENSORS

    @property
    @override
    def is_on(self) -> bool | None:
        """The newest value."""
        return None if self.reported is None else self.reported is True
