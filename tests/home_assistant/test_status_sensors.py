"""The site's own sensors: destinations, what waits, dropped events, storage, open alerts."""

from dataclasses import replace

from homeassistant.components.logbook.helpers import is_sensor_continuous
from homeassistant.core import HomeAssistant
from homeassistant.helpers import entity_registry as er
from pytest_homeassistant_custom_component.common import MockConfigEntry, async_capture_events

from custom_components.process_cosmos.const import DOMAIN
from custom_components.process_cosmos.contract.destinations import (
    Drop,
    LinkState,
    Priority,
    StorageState,
    Waiting,
)
from tests.support.waiting import until

from .contract_gateway import IDLE, ContractGateway
from .links import CLOUD, send_status

ALERTS = "sensor.process_cosmos_open_alerts"
DESTINATIONS = "sensor.process_cosmos_destination_status"
LAST_CONTACT = "sensor.process_cosmos_last_contact_with_a_destination"
OLDEST = "sensor.process_cosmos_oldest_event_waiting_to_be_sent"
LINK = replace(CLOUD, last_contact_age=1)
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


async def test_the_site_shows_the_status_of_its_destinations(
    hass: HomeAssistant, gateway: ContractGateway, linked: MockConfigEntry
) -> None:
    for entity in (OLDEST, LAST_CONTACT):
        er.async_get(hass).async_update_entity(entity, disabled_by=None)
    assert await hass.config_entries.async_reload(linked.entry_id)
    await until(lambda: linked.runtime_data.coordinator.status)
    assert state(hass, DESTINATIONS) == "off"
    assert state(hass, OLDEST) == "unknown"
    away = replace(LINK, name="webhook", state=LinkState.OFFLINE, reason="timeout", last_contact_age=None)
    status = replace(
        IDLE, links=(LINK, away), waiting=Waiting(urgent=3, change=2, reading=1), rejected=4, oldest_waiting_age=60
    )
    await send_status(gateway, linked, status)
    await hass.async_block_till_done()
    assert state(hass, DESTINATIONS) == "offline"
    shown = hass.states.get(DESTINATIONS)
    assert shown
    assert (shown.attributes["webhook"]["state"], shown.attributes["webhook"]["reason"]) == ("offline", "timeout")
    waiting = (f"sensor.process_cosmos_{what}_waiting_to_be_sent" for what in ("alerts", "changes", "readings"))
    assert [state(hass, entity) for entity in waiting] == list("321")
    assert state(hass, "sensor.process_cosmos_rejected_events") == "4"
    assert str(state(hass, LAST_CONTACT)) > str(state(hass, OLDEST))
    written = async_capture_events(hass, "state_changed")
    await send_status(gateway, linked, replace(status, oldest_waiting_age=61))
    await hass.async_block_till_done()
    assert not written, "an age that only grew is no news"


async def test_sensors_that_change_often_add_no_rows_to_the_activity_of_the_site(
    hass: HomeAssistant, gateway: ContractGateway, linked: MockConfigEntry
) -> None:
    written = async_capture_events(hass, "state_changed")
    for age in (1, 400):
        status = replace(
            IDLE,
            links=(replace(LINK, state=LinkState.OFF, last_contact_age=age),),
            waiting=Waiting(urgent=age, change=age, reading=age),
            rejected=age,
            dropped=age,
            oldest_waiting_age=age,
        )
        await send_status(gateway, linked, status)
        await hass.async_block_till_done()
    changes = [event.data for event in written if event.data["old_state"].state != event.data["new_state"].state]
    moved = {change["entity_id"] for change in changes}
    assert len(moved) == 5
    registry = er.async_get(hass)
    assert [one for one in moved if not is_sensor_continuous(hass, registry, one)] == []


async def test_open_alerts_are_counted_with_and_without_the_app(hass: HomeAssistant, linked: MockConfigEntry) -> None:
    assert state(hass, ALERTS) == "0"
    reply = await hass.services.async_call(
        DOMAIN, "alert", {"message": "Wet", "site": linked.entry_id}, blocking=True, return_response=True
    )
    assert reply
    await until(lambda: state(hass, ALERTS) == "1")
    await hass.services.async_call(DOMAIN, "resolve", {"alert": reply["id"]}, blocking=True)
    await until(lambda: state(hass, ALERTS) == "0")
