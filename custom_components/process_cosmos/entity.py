"""What all entities share, and how those of devices come with their device."""

import uuid
from abc import abstractmethod
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import ClassVar, override

from homeassistant.core import callback
from homeassistant.helpers.entity import Entity, EntityDescription
from homeassistant.helpers.entity_platform import AddConfigEntryEntitiesCallback

from .contract.devices import Device, Property, Value, WriteProperty
from .coordinator import DEVICES, STATUS, CosmosCoordinator
from .data import CosmosConfigEntry
from .gateway.devices import DeviceState, DeviceUpdate
from .gateway.registry import make_device_info, make_site_device_info, unique_id


@dataclass(frozen=True, kw_only=True)
class PropertyDescription(EntityDescription):
    """A row of a platform's table: the properties it shows. The first row that fits a property shows it."""

    fits_fn: Callable[[Property], bool]


class SiteEntity(Entity):
    """Belongs to the site's own device."""

    _attr_has_entity_name = True
    _attr_should_poll = False

    def __init__(self, entry: CosmosConfigEntry, description: EntityDescription) -> None:
        """Be the entity of the table's row ``description``; its key is part of the unique id."""
        self.entity_description = description
        self._attr_unique_id = f"{entry.entry_id}_{description.key}"
        self._attr_device_info = make_site_device_info(entry)


class StatusEntity(SiteEntity):
    """Shows something of the gateway's status."""

    def __init__(self, coordinator: CosmosCoordinator, description: EntityDescription) -> None:
        """Be the entity of the table's row ``description``, with what ``coordinator`` knows."""
        super().__init__(coordinator.entry, description)
        self.coordinator = coordinator

    @property
    @override
    def available(self) -> bool:
        """Whether the gateway has said how it stands, and the link is there."""
        return self.coordinator.available and self.coordinator.status is not None

    @override
    async def async_added_to_hass(self) -> None:
        """Write the state with each status, about one a second."""
        self.async_on_remove(self.coordinator.async_watch(STATUS, lambda _: self.async_write_ha_state()))


class DeviceEntity(Entity):
    """Belongs to a device."""

    _attr_has_entity_name = True
    _attr_should_poll = False

    def __init__(self, coordinator: CosmosCoordinator, device: Device, title: str, *key: str) -> None:
        """Take the device, and title and key of what is shown of it."""
        self.coordinator = coordinator
        self.device_id = device.id
        self._attr_unique_id = unique_id(coordinator.entry, device.id, *key)
        self._attr_name = title
        self._attr_device_info = make_device_info(coordinator.hass, coordinator.entry, device)

    @property
    def device_state(self) -> DeviceState | None:
        """The device as it is now; None when the gateway no longer has it."""
        return self.coordinator.devices.by_id.get(self.device_id)

    @property
    @override
    def available(self) -> bool:
        """Whether the link is there and the device not known to be offline."""
        return self.coordinator.available and self.device_state is not None and self.device_state.online is not False

    @override
    async def async_added_to_hass(self) -> None:
        """Call ``async_handle_update`` with each change of the device."""
        self.async_on_remove(self.coordinator.async_watch(self.device_id, self.async_handle_update))

    @abstractmethod
    def async_handle_update(self, update: DeviceUpdate | None) -> None:
        """Write the state; ``update`` says what changed, None: perhaps everything."""


class PropertyEntity(DeviceEntity):
    """Shows one property of a device."""

    entity_description: PropertyDescription
    rows: ClassVar[Sequence[PropertyDescription]]

    def __init__(self, coordinator: CosmosCoordinator, device: Device, item: Property) -> None:
        """Take the property, which one of the rows fits."""
        super().__init__(coordinator, device, item.title, item.name)
        self.property_name = item.name
        self._select_row(item)

    @classmethod
    def find_row(cls, item: Property) -> PropertyDescription | None:
        """Return the row that shows ``item``, if one does."""
        return next((row for row in cls.rows if row.fits_fn(item)), None)

    def describe(self, item: Property) -> None:
        """Take from the description what no row says: unit, limits."""

    def _select_row(self, item: Property) -> None:
        if row := self.find_row(item):
            self.entity_description = row
            self._attr_device_class = row.device_class
            self.describe(item)

    @property
    @override
    def available(self) -> bool:
        """Whether the device is, and its description still has this property as it was."""
        return super().available and self.item is not None and self.entity_description.fits_fn(self.item)

    @property
    def item(self) -> Property | None:
        """The property as described now."""
        return self.device_state.properties.get(self.property_name) if self.device_state else None

    @property
    def reported(self) -> Value | None:
        """The newest value; None until one was heard."""
        return self.device_state.values.get(self.property_name) if self.device_state else None

    @callback
    @override
    def async_handle_update(self, update: DeviceUpdate | None) -> None:
        """Write the state unless only something else of the device changed; a new description is followed."""
        if self.item and (update is None or (update.event is None and update.property is None)):
            self._select_row(self.item)
        if update is None or (update.event is None and update.property in (None, self.property_name)):
            self.async_write_ha_state()

    async def async_write(self, value: Value) -> None:
        """Ask the device to take ``value``; raise a coded ``HomeAssistantError`` at once when it cannot be asked."""
        await self.coordinator.async_request(
            WriteProperty(id=uuid.uuid4().hex, device=self.device_id, property=self.property_name, value=value)
        )


def add_property_entities(
    entry: CosmosConfigEntry, add: AddConfigEntryEntitiesCallback, shown_by: type[PropertyEntity]
) -> None:
    """Add an entity for every property of a device that a row fits, now and whenever one joins."""

    def of(coordinator: CosmosCoordinator, device: Device) -> Iterable[DeviceEntity]:
        return (shown_by(coordinator, device, item) for item in device.properties if shown_by.find_row(item))

    add_device_entities(entry, add, of)


def add_device_entities(
    entry: CosmosConfigEntry,
    add: AddConfigEntryEntitiesCallback,
    entities_of: Callable[[CosmosCoordinator, Device], Iterable[DeviceEntity]],
) -> None:
    """Add what ``entities_of`` makes of each device, now and whenever one joins or changes; each entity once."""
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
            entity.async_on_remove(partial(shown.discard, entity.unique_id))
        add(new)

    entry.async_on_unload(coordinator.async_watch(DEVICES, add_new))
    add_new()
