"""Binary sensors: read-only boolean properties of devices, and the connection to the MQTT broker."""

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
from .entity import PropertyEntity, StatusEntity, add_property_entities

PARALLEL_UPDATES = 0


BROKER = BinarySensorEntityDescription(
    key="broker",
    device_class=BinarySensorDeviceClass.CONNECTIVITY,
    entity_category=EntityCategory.DIAGNOSTIC,
)


async def async_setup_entry(
    hass: HomeAssistant,  # noqa: ARG001 - Home Assistant's signature
    entry: CosmosConfigEntry,
    async_add_entities: AddConfigEntryEntitiesCallback,
) -> None:
    """Add the binary sensors of all devices and, with the app, that of the broker."""
    add_property_entities(entry, async_add_entities, PropertyBinarySensor)
    if (coordinator := entry.runtime_data.coordinator) is not None:
        async_add_entities([BrokerSensor(coordinator, BROKER)])


class BrokerSensor(StatusEntity, BinarySensorEntity):
    """Whether the gateway is connected to the MQTT broker; unavailable if no broker is configured."""

    @property
    @override
    def available(self) -> bool:
        """Whether the gateway has reported a broker."""
        status = self.coordinator.status
        # A connection without details about the broker is a connection nevertheless.
        return super().available and status is not None and (status.status.broker is not None or bool(self.is_on))

    @property
    @override
    def is_on(self) -> bool | None:
        """Whether the gateway is connected to the broker; None before the first status."""
        return None if self.coordinator.status is None else self.coordinator.status.status.broker_connected

    @property
    @override
    def extra_state_attributes(self) -> dict[str, Any] | None:
        """The reason for a lost connection, and the MQTT version in use."""
        status = self.coordinator.status
        broker = None if status is None else status.status.broker
        return None if broker is None else {"reason": broker.reason, "mqtt_version": broker.version}


class PropertyBinarySensor(PropertyEntity, BinarySensorEntity):
    """A read-only boolean property of a device."""

    @staticmethod
    @override
    def fits(item: Property) -> bool:
        """Return whether ``item`` is a read-only boolean."""
        return item.kind is PropertyKind.BOOLEAN and not item.writable

    @override
    def describe(self, item: Property) -> None:
        """Set the device class."""
        self._attr_device_class = BinarySensorDeviceClass.MOISTURE if item.hint is Hint.MOISTURE else None

    @property
    @override
    def is_on(self) -> bool | None:
        """The newest reported value."""
        return None if self.reported is None else self.reported is True
