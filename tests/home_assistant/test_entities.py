"""Entities of the gateway's devices, and writes to them."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest
from homeassistant.core import HomeAssistant
from homeassistant.exceptions import HomeAssistantError
from homeassistant.helpers import device_registry as dr
from pytest_homeassistant_custom_component.common import MockConfigEntry, async_capture_events

from custom_components.process_cosmos import async_remove_config_entry_device
from custom_components.process_cosmos.const import DOMAIN
from custom_components.process_cosmos.contract.devices import (
    AvailabilityChanged,
    DeviceChanged,
    DeviceRemoved,
    EventHappened,
    Hint,
    Property,
    PropertyKind,
    Snapshot,
    ValueChanged,
    WriteProperty,
)
from custom_components.process_cosmos.contract.messages import FromGateway
from tests.support.waiting import until

from .contract_gateway import SITE, ContractGateway, refusing
from .devices import HOUSE, LEAK, ROOM, VALVE

WET = "binary_sensor.kitchen_leak_wet"
WATER = "valve.main_valve"
WAITING = ("alerts", "changes", "readings")
SIREN = "switch.main_valve_siren"
TARGET = "number.cellar_target"


@pytest.fixture
async def gateway(gateway: ContractGateway) -> ContractGateway:
    gateway.devices = HOUSE
    return gateway


@pytest.fixture(autouse=True)
async def _site(linked: MockConfigEntry) -> None:
    """Set up the site."""


def states(hass: HomeAssistant) -> Mapping[str, str]:
    return {state.entity_id: state.state for state in hass.states.async_all() if state.domain != "notify"}


def attributes(hass: HomeAssistant, entity_id: str) -> Mapping[str, Any]:
    shown = hass.states.get(entity_id)
    assert shown
    return shown.attributes


async def send(hass: HomeAssistant, gateway: ContractGateway, *messages: FromGateway) -> None:
    """Send messages and wait until they were processed."""
    await gateway.send(*messages, AvailabilityChanged(sequence=999, device=ROOM.id, online=None))
    coordinator = hass.config_entries.async_entries(DOMAIN)[0].runtime_data.coordinator
    await until(lambda: coordinator.devices.sequence == 999)
    coordinator.devices.sequence = 0
    await hass.async_block_till_done()


async def act(hass: HomeAssistant, domain: str, action: str, entity_id: str, **data: Any) -> None:  # noqa: ANN401
    await hass.services.async_call(domain, action, {"entity_id": entity_id, **data}, blocking=True)


async def test_a_changed_property_description_is_applied(hass: HomeAssistant, gateway: ContractGateway) -> None:
    described_anew: dict[str, dict[str, Any]] = {
        "temperature": {"unit": "°F", "value": 54.5},
        "humidity": {"hint": Hint.NONE},
        "target": {"minimum": 10, "maximum": 60},
    }
    properties = tuple(replace(item, **described_anew.get(item.name, {})) for item in ROOM.properties)
    await send(hass, gateway, DeviceChanged(sequence=101, device=replace(ROOM, properties=properties)))
    assert states(hass)["sensor.cellar_temperature"] == "12.5", "54.5 °F, in the unit of this Home Assistant"
    assert states(hass)["sensor.cellar_humidity"] == "60"
    assert "device_class" not in attributes(hass, "sensor.cellar_humidity")
    assert (attributes(hass, TARGET)["min"], attributes(hass, TARGET)["max"]) == (10, 60)


async def test_a_number_without_limits_accepts_any_value(hass: HomeAssistant, gateway: ContractGateway) -> None:
    for value in (-5000, 0.01, 123456.78):
        await act(hass, "number", "set_value", "number.cellar_free", value=value)
    assert [write.value for write in gateway.received_of(WriteProperty)] == [-5000, 0.01, 123456.78]


async def test_an_integer_has_steps_of_one(hass: HomeAssistant, gateway: ContractGateway) -> None:
    assert attributes(hass, TARGET)["step"] == 0.01
    properties = tuple(replace(item, integer=item.name == "target") for item in ROOM.properties)
    await send(hass, gateway, DeviceChanged(sequence=101, device=replace(ROOM, properties=properties)))
    assert attributes(hass, TARGET)["step"] == 1


async def test_devices_are_registered_via_the_device_of_the_site(hass: HomeAssistant, linked: MockConfigEntry) -> None:
    registry = dr.async_get(hass)
    hub = registry.async_get_device_by_identifier((DOMAIN, linked.entry_id), linked.entry_id)
    leak = registry.async_get_device_by_identifier((DOMAIN, f"{SITE}/leak-1"), linked.entry_id)
    assert hub
    assert leak
    assert hub.sw_version == "9.8.7"
    assert (leak.name, leak.manufacturer, leak.model, leak.sw_version) == ("Kitchen leak", "Acme", "L1", "2.1")
    assert leak.via_device_id == hub.id


async def test_a_change_writes_the_state_of_its_entity_only(hass: HomeAssistant, gateway: ContractGateway) -> None:
    written = async_capture_events(hass, "state_changed")
    await send(hass, gateway, ValueChanged(sequence=101, device="leak-1", property="wet", value=True, age=0))
    assert states(hass)[WET] == "on"
    assert {event.data["entity_id"] for event in written} == {WET}


async def test_a_possible_repeat_of_a_device_event_is_shown_and_marked(
    hass: HomeAssistant, gateway: ContractGateway
) -> None:
    pressed = async_capture_events(hass, "state_changed")
    press = EventHappened(sequence=101, device="leak-1", event="button", age=0, value=1, key="session/7/ab")
    unclear_device = replace(press, sequence=103, redelivered=True, key="session/8/ab", possible_repeat=True)
    await send(hass, gateway, press, replace(press, sequence=102, redelivered=True), unclear_device)
    await send(hass, gateway, replace(press, sequence=104))  # the same message id was reused, not redelivered
    shown = [event.data["new_state"] for event in pressed if event.data["entity_id"] == "event.kitchen_leak_button"]
    assert [state.attributes.get("possible_repeat") for state in shown] == [None, True, True, None]


async def test_a_device_event_shows_its_value(hass: HomeAssistant, gateway: ContractGateway) -> None:
    await send(hass, gateway, EventHappened(sequence=101, device="leak-1", event="button", age=0, value="long"))
    shown = hass.states.get("event.kitchen_leak_button")
    assert shown
    assert shown.attributes["event_type"] == "button"
    assert shown.attributes["value"] == "long"
    await send(hass, gateway, EventHappened(sequence=101, device="leak-1", event="never described", age=0))
    assert hass.states.get("event.kitchen_leak_button") == shown


@pytest.mark.parametrize(
    "change",
    [
        ValueChanged(sequence=1, device="leak-1", property="wet", value="yes", age=0),
        ValueChanged(sequence=1, device="leak-1", property="never described", value=True, age=0),
        ValueChanged(sequence=1, device="nobody", property="wet", value=True, age=0),
        DeviceRemoved(sequence=1, device="nobody"),
    ],
)
async def test_what_the_description_does_not_allow_changes_nothing(
    hass: HomeAssistant, gateway: ContractGateway, change: FromGateway
) -> None:
    before = states(hass)
    await send(hass, gateway, change)
    assert states(hass) == before


async def test_an_offline_device_is_unavailable(hass: HomeAssistant, gateway: ContractGateway) -> None:
    await send(hass, gateway, AvailabilityChanged(sequence=1, device="leak-1", online=False))
    assert states(hass)[WET] == states(hass)["event.kitchen_leak_button"] == "unavailable"
    assert states(hass)[WATER] == "open"
    await send(hass, gateway, AvailabilityChanged(sequence=1, device="leak-1", online=True))
    assert states(hass)[WET] == "off"


async def test_devices_are_added_and_removed(
    hass: HomeAssistant, gateway: ContractGateway, linked: MockConfigEntry
) -> None:
    registry = dr.async_get(hass)
    await send(hass, gateway, DeviceRemoved(sequence=1, device="leak-1"))
    assert WET not in states(hass)
    assert not registry.async_get_device_by_identifier((DOMAIN, f"{SITE}/leak-1"), linked.entry_id)
    await send(hass, gateway, DeviceChanged(sequence=2, device=LEAK))
    assert states(hass)[WET] == "off"


async def test_a_changed_description_adds_new_entities_and_makes_removed_ones_unavailable(
    hass: HomeAssistant, gateway: ContractGateway
) -> None:
    changed = replace(
        LEAK,
        title="Bathroom leak",
        properties=(
            replace(LEAK.properties[1], kind=PropertyKind.NUMBER),
            Property(name="loud", title="Loud", kind=PropertyKind.BOOLEAN, writable=True),
        ),
    )
    await send(hass, gateway, DeviceChanged(sequence=1, device=changed))
    assert states(hass)[WET] == states(hass)["binary_sensor.kitchen_leak_tamper"] == "unavailable"
    assert states(hass)["sensor.bathroom_leak_tamper"] == "unknown"
    assert states(hass)["switch.bathroom_leak_loud"] == "unknown"


async def test_a_device_missing_from_a_snapshot_keeps_its_name_and_area(
    hass: HomeAssistant, gateway: ContractGateway, linked: MockConfigEntry
) -> None:
    registry = dr.async_get(hass)
    leak = registry.async_get_device_by_identifier((DOMAIN, f"{SITE}/leak-1"), linked.entry_id)
    valve = registry.async_get_device_by_identifier((DOMAIN, f"{SITE}/valve-1"), linked.entry_id)
    hub = registry.async_get_device_by_identifier((DOMAIN, linked.entry_id), linked.entry_id)
    assert leak
    assert valve
    assert hub
    await send(hass, gateway, Snapshot(sequence=1, devices=(VALVE, ROOM)))
    assert states(hass)[WET] == "unavailable"
    deletable = [await async_remove_config_entry_device(hass, linked, device) for device in (leak, valve, hub)]
    assert deletable == [True, False, False]
    await send(hass, gateway, Snapshot(sequence=1, devices=HOUSE))
    assert states(hass)[WET] == "off"


@pytest.mark.parametrize(
    ("domain", "action", "entity_id", "data", "prop", "value", "shown"),
    [
        ("valve", "close_valve", WATER, {}, "open", False, "closed"),
        ("valve", "open_valve", WATER, {}, "open", True, "open"),
        ("switch", "turn_on", SIREN, {}, "siren", True, "on"),
        ("switch", "turn_off", SIREN, {}, "siren", False, "off"),
        ("number", "set_value", TARGET, {"value": 21.5}, "target", 21.5, "21.5"),
    ],
)
async def test_actions_write_to_the_device_and_its_report_is_shown(  # noqa: PLR0917 - a table's columns
    hass: HomeAssistant,
    gateway: ContractGateway,
    domain: str,
    action: str,
    entity_id: str,
    data: dict[str, float],
    prop: str,
    value: float,  # or a boolean
    shown: str,
) -> None:
    before = states(hass)[entity_id]
    await act(hass, domain, action, entity_id, **data)
    written = gateway.received_of(WriteProperty)[-1]
    assert (written.property, written.value) == (prop, value)
    assert states(hass)[entity_id] == before
    await send(hass, gateway, ValueChanged(sequence=1, device=written.device, property=prop, value=value, age=0))
    assert states(hass)[entity_id] == shown


@pytest.mark.parametrize(
    ("code", "key"), [("broker_away", "broker_away"), ("invalid_value", "invalid_value"), ("odd", "request_refused")]
)
async def test_a_refused_write_raises_its_code_at_once(
    hass: HomeAssistant, gateway: ContractGateway, code: str, key: str
) -> None:
    gateway.reply = refusing(code)
    with pytest.raises(HomeAssistantError) as caught:
        await act(hass, "valve", "close_valve", WATER)
    assert caught.value.translation_key == key
    assert caught.value.translation_placeholders == {"code": code, "message": f"It is {code}"}


async def test_a_write_without_a_connection_raises_at_once(
    hass: HomeAssistant, gateway: ContractGateway, linked: MockConfigEntry
) -> None:
    await gateway.stop()
    await until(lambda: not linked.runtime_data.coordinator.connection.session)
    with pytest.raises(HomeAssistantError) as caught:
        await act(hass, "valve", "close_valve", WATER)
    assert caught.value.translation_key == "gateway_away"
