"""All entities of each platform: registry entries and states, as snapshots."""

from dataclasses import replace

import pytest
from homeassistant.const import Platform
from homeassistant.core import HomeAssistant
from homeassistant.helpers import entity_registry as er
from homeassistant.helpers.entity import Entity
from pytest_homeassistant_custom_component.common import MockConfigEntry, snapshot_platform
from syrupy.assertion import SnapshotAssertion

from custom_components.process_cosmos.const import PLATFORMS
from custom_components.process_cosmos.contract.destinations import Drop, Priority, Waiting
from tests.support.waiting import until

from .conftest import set_up
from .contract_gateway import IDLE, ContractGateway
from .devices import HOUSE
from .links import CLOUD, HOOK

STATUS = replace(
    IDLE,
    links=(CLOUD, HOOK),
    waiting=Waiting(urgent=1, change=2, reading=3),
    rejected=4,
    dropped=5,
    drops=(Drop(priority=Priority.CHANGE, reason="quota", count=5),),
)


@pytest.fixture
def only(request: pytest.FixtureRequest, gateway: ContractGateway, monkeypatch: pytest.MonkeyPatch) -> Platform:
    """The only platform that is loaded, with all its entities enabled."""
    gateway.devices, gateway.status = HOUSE, STATUS
    monkeypatch.setattr("custom_components.process_cosmos.PLATFORMS", [request.param])
    monkeypatch.setattr(Entity, "entity_registry_enabled_default", True)
    platform: Platform = request.param
    return platform


@pytest.mark.parametrize("only", PLATFORMS, indirect=True)
async def test_the_entities_of_a_platform_are_as_in_the_snapshot(
    hass: HomeAssistant,
    only: Platform,
    site: MockConfigEntry,
    entity_registry: er.EntityRegistry,
    snapshot: SnapshotAssertion,
) -> None:
    await set_up(hass, site)
    await until(lambda: site.runtime_data.coordinator.status)
    await hass.async_block_till_done()
    await snapshot_platform(hass, entity_registry, snapshot, site.entry_id)
    assert {entity.split(".")[0] for entity in hass.states.async_entity_ids()} - {"notify"} == {only}
