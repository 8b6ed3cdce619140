"""Escaping of joined names: a device never gets the entities or issues of another one."""

import pytest
from homeassistant.core import HomeAssistant
from homeassistant.helpers import entity_registry as er
from homeassistant.helpers import issue_registry as ir
from pytest_homeassistant_custom_component.common import MockConfigEntry

from custom_components.process_cosmos.const import DOMAIN
from custom_components.process_cosmos.contract.devices import (
    Device,
    DeviceEventDescription,
    Hint,
    Property,
    PropertyKind,
)
from tests.support.waiting import until

from .conftest import set_up
from .contract_gateway import SITE, ContractGateway


def sensor(device: str, name: str, *, value: bool) -> Device:
    """Return a device with a property and a device event of the given names."""
    wet = Property(name=name, title="Leak", kind=PropertyKind.BOOLEAN, hint=Hint.MOISTURE, value=value)
    events = (DeviceEventDescription(name=name, title="Pressed"),)
    return Device(id=device, title=device.replace("/", " "), properties=(wet,), events=events, online=True)


KITCHEN, ROGUE = sensor("wot/kitchen", "leak", value=True), sensor("wot", "kitchen/leak", value=False)


@pytest.mark.parametrize("devices", [(KITCHEN, ROGUE), (ROGUE, KITCHEN)])
async def test_devices_with_ambiguous_joined_names_have_separate_sensors(
    hass: HomeAssistant, gateway: ContractGateway, site: MockConfigEntry, devices: tuple[Device, ...]
) -> None:
    gateway.devices = devices
    await set_up(hass, site)
    await until(lambda: len(hass.states.async_entity_ids("binary_sensor")) >= 2)
    await hass.async_block_till_done()
    entities = er.async_get(hass)
    shown = {}
    for device in devices:
        [item] = device.properties
        joined = {"leak": "wot%2Fkitchen/leak", "kitchen/leak": "wot/kitchen%2Fleak"}[item.name]
        entity_id = entities.async_get_entity_id("binary_sensor", DOMAIN, f"{SITE}/{joined}")
        assert entity_id
        state = hass.states.get(entity_id)
        assert state
        shown[device.id] = state.state
    assert shown == {"wot/kitchen": "on", "wot": "off"}
    assert len(hass.states.async_entity_ids("event")) == 2


@pytest.mark.parametrize("device", ["devices", "status", "/devices", "/status"])
async def test_a_device_may_have_any_id(
    hass: HomeAssistant, gateway: ContractGateway, site: MockConfigEntry, device: str
) -> None:
    gateway.devices = (sensor(device, "leak", value=True),)
    await set_up(hass, site)
    await until(lambda: hass.states.async_entity_ids("event"))
    await hass.async_block_till_done()
    [entity_id] = [each for each in hass.states.async_entity_ids("binary_sensor") if each.endswith("_leak")]
    assert (state := hass.states.get(entity_id))
    assert state.state == "on"


async def test_two_devices_have_separate_issues(
    hass: HomeAssistant, gateway: ContractGateway, site: MockConfigEntry
) -> None:
    def unknown(device: str, name: str) -> Device:
        item = Property(name=name, title="Leak", kind=PropertyKind.BOOLEAN, suggested_hint=Hint.MOISTURE)
        return Device(id=device, title=device, properties=(item,))

    gateway.devices = (unknown("wot/kitchen", "leak"), unknown("wot", "kitchen/leak"))
    await set_up(hass, site)
    await until(lambda: site.runtime_data.coordinator.status)
    [issue] = [each for each in ir.async_get(hass).issues.values() if each.translation_key == "polarity_unknown"]
    assert (issue.translation_placeholders or {})["properties"].splitlines() == [
        "- `wot/kitchen`: `leak` (`wet` / `dry`)",
        "- `wot`: `kitchen/leak` (`wet` / `dry`)",
    ]
