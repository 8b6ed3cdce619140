"""The sensors of dropped events and of the app's storage."""

from dataclasses import replace

from homeassistant.core import HomeAssistant
from homeassistant.helpers import entity_registry as er
from pytest_homeassistant_custom_component.common import MockConfigEntry

from custom_components.process_cosmos.contract.destinations import Drop, Priority, StorageState
from tests.support.waiting import until

from .contract_gateway import IDLE, ContractGateway

BY_PRIORITY = {
    "sensor.process_cosmos_dropped_alerts": "0",
    "sensor.process_cosmos_dropped_device_changes": "5",
    "sensor.process_cosmos_dropped_readings": "30",
}
DROPS = (
    Drop(priority=Priority.CHANGE, reason="superseded", count=5),
    Drop(priority=Priority.READING, reason="quota", count=20),
    Drop(priority=Priority.READING, reason="volume", count=10),
)


def state(hass: HomeAssistant, entity: str) -> str | None:
    found = hass.states.get(entity)
    return found.state if found else None


async def test_dropped_events_are_counted_and_the_storage_is_shown(
    hass: HomeAssistant, gateway: ContractGateway, linked: MockConfigEntry
) -> None:
    assert state(hass, "sensor.process_cosmos_app_storage") == "ok"
    await gateway.send(replace(IDLE, dropped=35, drops=DROPS, storage=StorageState.FAILING))
    await until(lambda: state(hass, "sensor.process_cosmos_app_storage") == "failing")
    assert state(hass, "sensor.process_cosmos_dropped_events") == "35"


async def test_each_priority_has_a_counter_that_is_disabled_by_default(
    hass: HomeAssistant, gateway: ContractGateway, linked: MockConfigEntry
) -> None:
    gateway.status = replace(IDLE, dropped=35, drops=DROPS)
    registry = er.async_get(hass)
    for entity in BY_PRIORITY:
        assert state(hass, entity) is None
        registry.async_update_entity(entity, disabled_by=None)
    assert await hass.config_entries.async_reload(linked.entry_id)
    await until(lambda: state(hass, "sensor.process_cosmos_dropped_events") == "35")
    assert {entity: state(hass, entity) for entity in BY_PRIORITY} == BY_PRIORITY
