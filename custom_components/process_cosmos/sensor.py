"""Sensors: number and text properties of devices, open alerts, and the status of the app."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from operator import attrgetter
from typing import Any, override

from homeassistant.components.sensor import SensorDeviceClass, SensorEntity, SensorEntityDescription, SensorStateClass
from homeassistant.components.sensor.const import DEVICE_CLASS_UNITS
from homeassistant.const import EntityCategory
from homeassistant.core import HomeAssistant, callback
from homeassistant.helpers.dispatcher import async_dispatcher_connect
from homeassistant.helpers.entity_platform import AddConfigEntryEntitiesCallback
from homeassistant.helpers.typing import StateType

from .alerts.engine import SIGNAL_ALERT_CHANGED, AlertChange, Alerts
from .contract.destinations import LinkState, Priority, StorageState
from .contract.devices import Hint, Property, PropertyKind
from .coordinator import SiteStatus
from .data import CosmosConfigEntry
from .entity import PropertyEntity, SiteEntity, StatusEntity, add_property_entities
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


def _worst_link(site: SiteStatus) -> LinkState | None:
    states = {link.state for link in site.status.links}
    worst = next((state for state in _WORST_FIRST if state in states), LinkState.OFF)
    return None if worst is LinkState.UNKNOWN else worst


def _links(site: SiteStatus) -> dict[str, Any]:
    return {
        link.name: {"label": label_of(link), "address": link.address, "state": link.state, "reason": link.reason}
        for link in site.status.links
    }


def _waiting(key: str, priority: Priority) -> SiteSensorDescription:
    value_fn = attrgetter(f"status.waiting.{priority}")
    return SiteSensorDescription(key=key, state_class=SensorStateClass.MEASUREMENT, value_fn=value_fn)


def _dropped(key: str, priority: Priority) -> SiteSensorDescription:
    return SiteSensorDescription(
        key=key,
        state_class=SensorStateClass.TOTAL_INCREASING,
        entity_registry_enabled_default=False,
        value_fn=lambda site: sum(drop.count for drop in site.status.drops if drop.priority is priority),
    )


SITE_SENSORS = (
    SiteSensorDescription(
        key="destinations",
        device_class=SensorDeviceClass.ENUM,
        options=[state for state in LinkState if state is not LinkState.UNKNOWN],
        value_fn=_worst_link,
        attributes_fn=_links,
    ),
    _waiting("waiting_urgent", Priority.URGENT),
    _waiting("waiting_change", Priority.CHANGE),
    _waiting("waiting_reading", Priority.READING),
    SiteSensorDescription(
        key="oldest_waiting",
        device_class=SensorDeviceClass.TIMESTAMP,
        entity_registry_enabled_default=False,  # each change of a timestamp adds a row to the site's activity
        value_fn=lambda site: site.oldest_waiting,
    ),
    SiteSensorDescription(
        key="rejected",
        state_class=SensorStateClass.MEASUREMENT,
        value_fn=lambda site: site.status.rejected,
    ),
    SiteSensorDescription(
        key="dropped",
        state_class=SensorStateClass.TOTAL_INCREASING,
        value_fn=lambda site: site.status.dropped,
    ),
    _dropped("dropped_urgent", Priority.URGENT),
    _dropped("dropped_change", Priority.CHANGE),
    _dropped("dropped_reading", Priority.READING),
    SiteSensorDescription(
        key="storage",
        device_class=SensorDeviceClass.ENUM,
        options=[*StorageState],
        value_fn=lambda site: site.status.storage,
    ),
    SiteSensorDescription(
        key="last_contact",
        device_class=SensorDeviceClass.TIMESTAMP,
        entity_registry_enabled_default=False,
        value_fn=lambda site: site.last_contact,
    ),
)

OPEN_ALERTS = SensorEntityDescription(key="open_alerts", state_class=SensorStateClass.MEASUREMENT)

_DEVICE_CLASSES: Mapping[Hint, SensorDeviceClass] = {
    Hint.TEMPERATURE: SensorDeviceClass.TEMPERATURE,
    Hint.HUMIDITY: SensorDeviceClass.HUMIDITY,
    Hint.BATTERY: SensorDeviceClass.BATTERY,
}


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

        @callback
        def changed(_: AlertChange) -> None:
            self.async_write_ha_state()

        self.async_on_remove(async_dispatcher_connect(self.hass, SIGNAL_ALERT_CHANGED, changed))


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

    @staticmethod
    @override
    def fits(item: Property) -> bool:
        """Return whether ``item`` is a text or a read-only number."""
        return item.kind is PropertyKind.TEXT or (item.kind is PropertyKind.NUMBER and not item.writable)

    @override
    def describe(self, item: Property) -> None:
        """Set unit and classes; a number whose unit its device class does not allow has no device class."""
        is_number = item.kind is PropertyKind.NUMBER
        device_class = _DEVICE_CLASSES.get(item.hint) if is_number else None
        is_allowed = device_class is not None and item.unit in DEVICE_CLASS_UNITS[device_class]
        self._attr_device_class = device_class if is_allowed else None
        self._attr_state_class = SensorStateClass.MEASUREMENT if is_number else None
        self._attr_native_unit_of_measurement = item.unit if is_number else None
        is_battery = self._attr_device_class is SensorDeviceClass.BATTERY
        self._attr_entity_category = EntityCategory.DIAGNOSTIC if is_battery else None

    @property
    @override
    def native_value(self) -> StateType:
        """The newest reported value; a text is cut to the maximum length of a state."""
        return self.reported[:_LONGEST_STATE] if isinstance(self.reported, str) else self.reported
