"""Base classes of the entities, and functions that add entities as devices appear."""

from abc import abstractmethod
from collections.abc import Awaitable, Callable, Iterable
from functools import partial
from typing import override

from homeassistant.core import HomeAssistant, callback
from homeassistant.helpers.entity import Entity, EntityDescription
from homeassistant.helpers.entity_platform import AddConfigEntryEntitiesCallback

from .contract.devices import Device, Property, PropertyKind, Value, WriteProperty
from .coordinator import DEVICES, STATUS, CosmosCoordinator
from .data import CosmosConfigEntry
from .gateway.devices import DeviceState, DeviceUpdate
from .gateway.registry import make_device_info, make_site_device_info, unique_id
from .reactions.coalescing import CoalescedWrites


class SiteEntity(Entity):
    """An entity of the site's own device."""

    _attr_has_entity_name = True
    _attr_should_poll = False

    def __init__(self, entry: CosmosConfigEntry, description: EntityDescription) -> None:
        """Create the entity that ``description`` defines; its key is the translation key and part of the unique id."""
        self.entity_description = description
        self._attr_translation_key = description.key
        self._attr_unique_id = f"{entry.entry_id}_{description.key}"
        self._attr_device_info = make_site_device_info(entry)


class StatusEntity(SiteEntity):
    """An entity that shows a part of the gateway's status."""

    def __init__(self, coordinator: CosmosCoordinator, description: EntityDescription) -> None:
        """Create the entity that ``description`` defines, with data from ``coordinator``."""
        super().__init__(coordinator.entry, description)
        self.coordinator = coordinator

    @property
    @override
    def available(self) -> bool:
        """Whether the gateway is connected and has sent its status."""
        return self.coordinator.connection.available and self.coordinator.status is not None

    @override
    async def async_added_to_hass(self) -> None:
        """Write the state after each status message, at most once a second."""
        self.async_on_remove(self.coordinator.async_watch(STATUS, lambda _: self.async_write_ha_state()))


class DeviceEntity(Entity):
    """An entity of a device behind the gateway."""

    _attr_has_entity_name = True
    _attr_should_poll = False

    def __init__(self, coordinator: CosmosCoordinator, device: Device, title: str, *key: str) -> None:
        """Create an entity of ``device`` named ``title``; ``key`` is the rest of its unique id."""
        self.coordinator = coordinator
        self.device_id = device.id
        self._attr_unique_id = unique_id(coordinator.entry, device.id, *key)
        self._attr_name = title
        self._attr_device_info = make_device_info(coordinator.hass, coordinator.entry, device)

    @property
    def device_state(self) -> DeviceState | None:
        """The current state of the device; None if the gateway no longer has it."""
        return self.coordinator.devices.by_id.get(self.device_id)

    @property
    @override
    def available(self) -> bool:
        """Whether the gateway is connected and the device is not known to be offline."""
        # None is unknown, as for devices that declare no availability; they count as available.
        return (
            self.coordinator.connection.available
            and self.device_state is not None
            and self.device_state.online is not False
        )

    @override
    async def async_added_to_hass(self) -> None:
        """Call ``async_handle_update`` after each change of the device."""
        self.async_on_remove(self.coordinator.async_watch(self.device_id, self.async_handle_update))

    @abstractmethod
    def async_handle_update(self, update: DeviceUpdate | None) -> None:
        """Write the state. ``update``: what changed; None: anything may have changed."""


class PropertyEntity(DeviceEntity):
    """An entity that shows one property of a device."""

    def __init__(self, coordinator: CosmosCoordinator, device: Device, item: Property) -> None:
        """Create the entity of ``item``, which must fit."""
        super().__init__(coordinator, device, item.title, item.name)
        self.property_name = item.name
        self._writes = CoalescedWrites(
            coordinator.hass, coordinator.held_writes, self.async_write_ha_state, self._is_at_once
        )
        self.describe(item)

    @staticmethod
    @abstractmethod
    def fits(item: Property) -> bool:
        """Return whether entities of this class can show ``item``."""

    def describe(self, item: Property) -> None:
        """Set attributes that depend on the description of the property, such as device class, unit and limits."""

    @property
    @override
    def available(self) -> bool:
        """Whether the device is available and its description still has a property that fits."""
        return super().available and self.item is not None and self.fits(self.item)

    @property
    def item(self) -> Property | None:
        """The current description of the property; None if it no longer exists."""
        return self.device_state.properties.get(self.property_name) if self.device_state else None

    @property
    def reported(self) -> Value | None:
        """The newest value; None before the first one."""
        return self.device_state.values.get(self.property_name) if self.device_state else None

    @callback
    @override
    def async_handle_update(self, update: DeviceUpdate | None) -> None:
        """Write the state after changes of this property or the whole device; apply a changed description."""
        if update is None or (update.event is None and update.property is None):
            # An entity whose property does not fit any more keeps its attributes, until the property fits again.
            if self.item and self.fits(self.item):
                self.describe(self.item)
            self._writes.write()
        # No other change writes a state: state writes are what makes Home Assistant slow under load.
        elif update.event is None and update.property == self.property_name:
            self._writes.value_changed()

    @override
    async def async_will_remove_from_hass(self) -> None:
        """Drop a write that waits: the entity shows the newest value when it is added again."""
        self._writes.stop()

    def _is_at_once(self) -> bool:
        """Return whether a change is shown at once: a number may wait if nothing refers to it and nobody chose it."""
        return (
            self.item is None
            or self.item.kind is not PropertyKind.NUMBER
            or self.entity_id in self.coordinator.references
            or (self.registry_entry is not None and self.registry_entry.id in self.coordinator.at_once)
        )

    async def async_write(self, value: Value) -> None:
        """Write ``value`` to the property; raise a coded ``HomeAssistantError`` on refusal or lost connection."""
        await self.coordinator.connection.async_request(
            WriteProperty(device=self.device_id, property=self.property_name, value=value)
        )


def property_platform(
    shown_by: type[PropertyEntity],
) -> Callable[[HomeAssistant, CosmosConfigEntry, AddConfigEntryEntitiesCallback], Awaitable[None]]:
    """Return the ``async_setup_entry`` of a platform that has no other entities than those of ``shown_by``."""

    async def async_setup_entry(
        _: HomeAssistant, entry: CosmosConfigEntry, add: AddConfigEntryEntitiesCallback
    ) -> None:
        add_property_entities(entry, add, shown_by)

    return async_setup_entry


def add_property_entities(
    entry: CosmosConfigEntry, add: AddConfigEntryEntitiesCallback, shown_by: type[PropertyEntity]
) -> None:
    """Add an entity for each property that fits, for current and future devices."""

    def make_entities(coordinator: CosmosCoordinator, device: Device) -> Iterable[DeviceEntity]:
        return (shown_by(coordinator, device, item) for item in device.properties if shown_by.fits(item))

    add_device_entities(entry, add, make_entities)


def add_device_entities(
    entry: CosmosConfigEntry,
    add: AddConfigEntryEntitiesCallback,
    entities_of: Callable[[CosmosCoordinator, Device], Iterable[DeviceEntity]],
) -> None:
    """Add the entities that ``entities_of`` makes for each device, now and after changes; each unique id once."""
    coordinator = entry.runtime_data.coordinator
    if coordinator is None:
        return
    shown: set[str | None] = set()

    @callback
    def add_new(update: DeviceUpdate | None = None) -> None:
        devices = coordinator.devices.by_id
        added = devices.values() if update is None else [devices[update.device]] if update.device in devices else []
        made = [e for device_state in added for e in entities_of(coordinator, device_state.device)]
        new = [entity for entity in made if entity.unique_id not in shown]
        for entity in new:
            shown.add(entity.unique_id)
            # A device that was removed may come back with the same ids.
            entity.async_on_remove(partial(shown.discard, entity.unique_id))
        add(new)

    entry.async_on_unload(coordinator.async_watch(DEVICES, add_new))
    add_new()
