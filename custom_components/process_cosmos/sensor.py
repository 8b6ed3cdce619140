"""Sensors: number and text properties of devices, open alerts, the app's status, and reaction times of automations."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from operator import attrgetter
from typing import Any, override

from homeassistant.components.automation import DOMAIN as AUTOMATION
from homeassistant.components.sensor import SensorDeviceClass, SensorEntity, SensorEntityDescription, SensorStateClass
from homeassistant.components.sensor.const import DEVICE_CLASS_UNITS
from homeassistant.const import EntityCategory, UnitOfTime
from homeassistant.core import HomeAssistant, callback
from homeassistant.helpers import entity_registry as er
from homeassistant.helpers.dispatcher import async_dispatcher_connect
from homeassistant.helpers.entity_platform import AddConfigEntryEntitiesCallback
from homeassistant.helpers.event import async_track_time_interval
from homeassistant.helpers.typing import StateType

from .alerts.engine import SIGNAL_ALERT_CHANGED, AlertChange, Alerts
from .contract.destinations import LinkState, Priority, StorageState
from .contract.devices import Hint, Property, PropertyKind
from .coordinator import AUTOMATIONS, CosmosCoordinator, SiteStatus
from .data import CosmosConfigEntry
from .entity import PropertyEntity, SiteEntity, StatusEntity, add_property_entities
from .gateway.destination_texts import label_of
from .gateway.devices import DeviceUpdate
from .issues.reaction_issue import clear_reaction_issue, show_reaction_issue
from .reactions.reaction_times import ReactionSummary

PARALLEL_UPDATES = 0

_LONGEST_STATE = 255
_REACTIONS_EVERY = timedelta(seconds=30)
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

REACTION_TIME = SensorEntityDescription(
    key="reaction_time",
    device_class=SensorDeviceClass.DURATION,
    state_class=SensorStateClass.MEASUREMENT,
    native_unit_of_measurement=UnitOfTime.MILLISECONDS,
    suggested_display_precision=0,
    entity_category=EntityCategory.DIAGNOSTIC,
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
        _add_reaction_times(entry, coordinator, async_add_entities)
    add_property_entities(entry, async_add_entities, PropertySensor)


def _add_reaction_times(
    entry: CosmosConfigEntry, coordinator: CosmosCoordinator, add: AddConfigEntryEntitiesCallback
) -> None:
    """Keep a sensor for each automation made from our blueprints."""
    shown: set[str] = set()
    registry = er.async_get(coordinator.hass)
    prefix = f"{entry.entry_id}_{REACTION_TIME.key}_"

    @callback
    def update(_: DeviceUpdate | None = None) -> None:
        # Also those of automations that were deleted while the entry was not loaded.
        for sensor in er.async_entries_for_config_entry(registry, entry.entry_id):
            automation = sensor.unique_id.removeprefix(prefix)
            if sensor.unique_id.startswith(prefix) and not _is_automation(registry, automation):
                registry.async_remove(sensor.entity_id)
                shown.discard(automation)
        found = coordinator.reaction_times.automations
        add(ReactionTimeSensor(coordinator, one, found[one]) for one in found.keys() - shown)
        shown.update(found)

    entry.async_on_unload(coordinator.async_watch(AUTOMATIONS, update))
    update()


def _is_automation(registry: er.EntityRegistry, unique_id: str) -> bool:
    return registry.async_get_entity_id(AUTOMATION, AUTOMATION, unique_id) is not None


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


class ReactionTimeSensor(SiteEntity, SensorEntity):
    """The 99th percentile of the reaction times of one automation in the last 24 hours.

    It is written at intervals: no reaction must wait for a sensor's state write, and reactions expire without an event.
    """

    def __init__(self, coordinator: CosmosCoordinator, automation: str, name: str) -> None:
        """Show the reactions of the automation with the unique id ``automation``."""
        super().__init__(coordinator.entry, REACTION_TIME)
        self._attr_unique_id = f"{self._attr_unique_id}_{automation}"
        self._attr_translation_placeholders = {"automation": name}
        self._coordinator = coordinator
        self._automation = automation
        self._summary = ReactionSummary((), coordinator.reaction_times.budget)

    @property
    @override
    def native_value(self) -> float | None:
        """The percentile in milliseconds."""
        return _milliseconds(self._summary.percentile(99))

    @property
    @override
    def extra_state_attributes(self) -> dict[str, Any]:
        """Median and budget in milliseconds, the number of reactions, and how many of them exceeded the budget."""
        return {
            "median": _milliseconds(self._summary.percentile(50)),
            "budget": _milliseconds(self._summary.budget),
            "reactions": len(self._summary.reactions),
            "over_budget": len(self._summary.slow),
        }

    @override
    async def async_added_to_hass(self) -> None:
        """Show the newest reactions twice a minute."""
        self.async_on_remove(async_track_time_interval(self.hass, self._refresh, _REACTIONS_EVERY))

    @callback
    def _refresh(self, _: datetime) -> None:
        times = self._coordinator.reaction_times
        self._summary = times.summary(self._automation)
        name = times.automations.get(self._automation, self._attr_translation_placeholders["automation"])
        show_reaction_issue(self.hass, self._coordinator.entry, (self._automation, name), self._summary)
        self.async_write_ha_state()

    @override
    async def async_will_remove_from_hass(self) -> None:
        """Delete the issue, which nothing would update."""
        clear_reaction_issue(self.hass, self._coordinator.entry, self._automation)


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


def _milliseconds(seconds: float | None) -> float | None:
    return None if seconds is None else round(1000 * seconds, 1)
