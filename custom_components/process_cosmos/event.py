"""Event entities: one for each kind of device event."""

from collections.abc import Iterable
from typing import Any, override

from homeassistant.components.event import EventEntity
from homeassistant.core import HomeAssistant, callback
from homeassistant.helpers.entity_platform import AddConfigEntryEntitiesCallback

from .contract.devices import Device, DeviceEventDescription
from .coordinator import CosmosCoordinator
from .data import CosmosConfigEntry
from .entity import DeviceEntity, add_device_entities
from .gateway.devices import DeviceUpdate
from .gateway.registry import EVENT_KEY

PARALLEL_UPDATES = 0


async def async_setup_entry(
    hass: HomeAssistant,  # noqa: ARG001 - Home Assistant's signature
    entry: CosmosConfigEntry,
    async_add_entities: AddConfigEntryEntitiesCallback,
) -> None:
    """Add the event entities of all devices."""
    add_device_entities(entry, async_add_entities, _make_events)


def _make_events(coordinator: CosmosCoordinator, device: Device) -> Iterable[DeviceEventEntity]:
    return (DeviceEventEntity(coordinator, device, description) for description in device.events)


class DeviceEventEntity(DeviceEntity, EventEntity):
    """The events of one kind from one device."""

    def __init__(self, coordinator: CosmosCoordinator, device: Device, description: DeviceEventDescription) -> None:
        """Represent the events of ``device`` that ``description`` names."""
        super().__init__(coordinator, device, description.title, EVENT_KEY, description.name)
        self._attr_event_types = [description.name]

    @callback
    @override
    def async_handle_update(self, update: DeviceUpdate | None) -> None:
        """Fire on an event of this kind; write the state after a change of the whole device."""
        if update and update.event:
            if update.event.event not in self.event_types:
                return
            attributes: dict[str, Any] = {"value": update.event.value}
            # An event in doubt is shown, because twice is better than never; automations can check the mark.
            if update.event.possible_repeat:
                attributes["possible_repeat"] = True
            self._trigger_event(update.event.event, attributes)
        if update is None or update.property is None:
            self.async_write_ha_state()
