"""Sensors: number and text properties of devices, open alerts, and the status of the app."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any, override

from homeassistant.components.sensor import (
    SensorDeviceClass,
    SensorEntity,
    SensorEntityDescription,
    SensorStateClass,
)
from homeassistant.components.sensor.const import DEVICE_CLASS_UNITS
from homeassistant.const import EntityCategory
from homeassistant.core import HomeAssistant
from homeassistant.helpers.entity_platform import AddConfigEntryEntitiesCallback
from homeassistant.helpers.typing import StateType

from .alerts.engine import Alerts
from .contract.destinations import LinkState, Priority, StorageState
from .contract.devices import Hint, Property, PropertyKind
from .coordinator import SiteStatus
from .data import CosmosConfigEntry
from .entity import PropertyDescription, PropertyEntity, SiteEntity, StatusEntity, add_property_entities
from .gateway.destination_texts import label_of

PARALLEL_UPDATES = 0

_LONGEST_STATE = 255
_WORST_FIRST = (LinkState.REFUSED, LinkState.OFFLINE, LinkState.UNKNOWN, LinkState.CONNECTED, LinkState.OFF)


@dataclass(frozen=True, kw_only=True)
class SiteSensorDescription(SensorEntityDescription):
    """Describes a sensor of the app's status."""

    value_fn: Callable[[SiteStatus], StateType | datetime]
    attributes_fn: Callable[[SiteStatus], dict[str, Any] | None] = lambda _: None
    entity_category: EntityCategory | None = EntityCategory.DIAGNOSTIC


@dataclass(frozen=True, kw_only=True)
class PropertySensorDescription(PropertyDescription, SensorEntityDescription):
    """Describes a sensor of a property."""


def _worst_link(site: SiteStatus) -> LinkState | None:
    states = {link.state for link in site.status.links}
    worst = next((state for state in _WORST_FIRST if state in states), LinkState.OFF)
    return None if worst is LinkState.UNKNOWN else worst


def _links(site: SiteStatus) -> dict[str, Any]:
    return {
        link.name: {"label": label_of(link), "address": link.address, "state": link.state, "reason": link.reason}
        for link in site.status.links
    }


def _dropped(key: str, priority: Priority) -> SiteSensorDescription:
    return SiteSensorDescription(
        key=key,
        translation_key=key,
        state_class=SensorStateClass.TOTAL_INCREASING,
        entity_registry_enabled_default=False,
        value_fn=lambda site: sum(drop.count for drop in site.status.drops if drop.priority is priority),
    )


SITE_SENSORS = (
    SiteSensorDescription(
        key="destinations",
        translation_key="destinations",
        device_class=SensorDeviceClass.ENUM,
        options=[state for state in LinkState if state is not LinkState.UNKNOWN],
        value_fn=_worst_link,
        attributes_fn=_links,
    ),
    SiteSensorDescription(
        key="waiting_urgent",
        translation_key="waiting_urgent",
        state_class=SensorStateClass.MEASUREMENT,
        value_fn=lambda site: site.status.waiting.urgent,
    ),
    SiteSensorDescription(
        key="waiting_change",
        translation_key="waiting_change",
        state_class=SensorStateClass.MEASUREMENT,
        value_fn=lambda site: site.status.waiting.change,
    ),
    SiteSensorDescription(
        key="waiting_reading",
        translation_key="waiting_reading",
        state_class=SensorStateClass.MEASUREMENT,
        value_fn=lambda site: site.status.waiting.reading,
    ),
    SiteSensorDescription(
        key="oldest_waiting",
        translation_key="oldest_waiting",
        device_class=SensorDeviceClass.TIMESTAMP,
        entity_registry_enabled_default=False,  # each change of a timestamp adds a row to the site's activity
        value_fn=lambda site: site.oldest_waiting,
    ),
    SiteSensorDescription(
        key="rejected",
        translation_key="rejected",
        state_class=SensorStateClass.MEASUREMENT,
        value_fn=lambda site: site.status.rejected,
    ),
    SiteSensorDescription(
        key="dropped",
        translation_key="dropped",
        state_class=SensorStateClass.TOTAL_INCREASING,
        value_fn=lambda site: site.status.dropped,
    ),
    _dropped("dropped_urgent", Priority.URGENT),
    _dropped("dropped_change", Priority.CHANGE),
    _dropped("dropped_reading", Priority.READING),
    SiteSensorDescription(
        key="storage",
        translation_key="storage",
        device_class=SensorDeviceClass.ENUM,
        options=[*StorageState],
        value_fn=lambda site: site.status.storage,
    ),
    SiteSensorDescription(
        key="last_contact",
        translation_key="last_contact",
        device_class=SensorDeviceClass.TIMESTAMP,
        entity_registry_enabled_default=False,
        value_fn=lambda site: site.last_contact,
    ),
)

OPEN_ALERTS = SensorEntityDescription(
    key="open_alerts", translation_key="open_alerts", state_class=SensorStateClass.MEASUREMENT
)


def _is_number(item: Property, device_class: SensorDeviceClass | None = None) -> bool:
    """Return whether ``item`` is a read-only number with a unit that Home Assistant allows for ``device_class``."""
    # With any other unit the property falls through to the row of plain numbers, which accepts all units.
    known = device_class is None or item.unit in DEVICE_CLASS_UNITS[device_class]
    return item.kind is PropertyKind.NUMBER and not item.writable and known


def _number_sensor(hint: Hint, device_class: SensorDeviceClass, **more: Any) -> PropertySensorDescription:  # noqa: ANN401
    return PropertySensorDescription(
        key=hint,
        device_class=device_class,
        state_class=SensorStateClass.MEASUREMENT,
        fits_fn=lambda item: item.hint is hint and _is_number(item, device_class),
        **more,
    )


PROPERTY_SENSORS = (
    _number_sensor(Hint.TEMPERATURE, SensorDeviceClass.TEMPERATURE),
    _number_sensor(Hint.HUMIDITY, SensorDeviceClass.HUMIDITY),
    _number_sensor(Hint.BATTERY, SensorDeviceClass.BATTERY, entity_category=EntityCategory.DIAGNOSTIC),
    PropertySensorDescription(key="number", state_class=SensorStateClass.MEASUREMENT, fits_fn=_is_number),
    PropertySensorDescription(key="text", fits_fn=lambda item: item.kind is PropertyKind.TEXT),
)


async def async_setup_entry(
    hass: HomeAssistant,  # noqa: ARG001 - Home Assistant's signature
    entry: CosmosConfigEntry,
    async_add_entities: AddConfigEntryEntitiesCallback,
) -> None:
    """Add the sensors of the site and of all devices."""
    async_add_entities([OpenAlerts(entry, entry.runtime_data.alerts)])
    if coordinator := entry.runtime_data.coordinator:
        async_add_entities(SiteSensor(coordinator, row) for row in SITE_SENSORS)
    add_property_entities(entry, async_add_entities, PropertySensor)


class OpenAlerts(SiteEntity, SensorEntity):
    """The number of open alerts; also available without the app."""

    def __init__(self, entry: CosmosConfigEntry, alerts: Alerts) -> None:
        """Count the open alerts of the site."""
        super().__init__(entry, OPEN_ALERTS)
        self._alerts = alerts

    @property
    @override
    def native_value(self) -> int:
        """The number of alerts that are open or acknowledged."""
        return len(self._alerts.alive)

    @override
    async def async_added_to_hass(self) -> None:
        """Write the state after each stored change of an alert."""
        self.async_on_remove(self._alerts.async_listen(lambda _: self.async_write_ha_state()))


class SiteSensor(StatusEntity, SensorEntity):
    """A sensor of the gateway's status."""

    entity_description: SiteSensorDescription

    @property
    @override
    def native_value(self) -> StateType | datetime:
        """The value that the description computes from the status."""
        return self.entity_description.value_fn(self.coordinator.status) if self.coordinator.status else None

    @property
    @override
    def extra_state_attributes(self) -> dict[str, Any] | None:
        """The attributes that the description computes from the status."""
        return self.entity_description.attributes_fn(self.coordinator.status) if self.coordinator.status else None


class PropertySensor(PropertyEntity, SensorEntity):
    """A number or text property of a device."""

    entity_description: PropertySensorDescription
    rows = PROPERTY_SENSORS

    @override
    def describe(self, item: Property) -> None:
        """Copy the unit from the description of the property."""
        # A description can change from number to text, and a text must not keep the state class of the number.
        self._attr_state_class = self.entity_description.state_class
        self._attr_native_unit_of_measurement = item.unit if item.kind is PropertyKind.NUMBER else None

    @property
    @override
    def native_value(self) -> StateType:
        """The newest reported value; a text is cut to the maximum length of a state."""
        return self.reported[:_LONGEST_STATE] if isinstance(self.reported, str) else self.reported
