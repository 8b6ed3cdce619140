"""A site whose app was lost: another app serves it, and devices and entities are kept."""

from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import pytest
from homeassistant.core import HomeAssistant
from homeassistant.data_entry_flow import FlowResultType
from homeassistant.helpers import device_registry as dr
from homeassistant.helpers import entity_registry as er
from homeassistant.helpers import issue_registry as ir
from pytest_homeassistant_custom_component.common import MockConfigEntry

from custom_components.process_cosmos.const import DOMAIN
from custom_components.process_cosmos.contract.alerts import Transition
from custom_components.process_cosmos.flows.other_gateway import OtherGatewayFlow
from custom_components.process_cosmos.gateway import connection as connection_module
from custom_components.process_cosmos.repairs import async_create_fix_flow
from tests.support.supervisor.apps import App, State
from tests.support.supervisor.discovery import Message
from tests.support.waiting import until

from .contract_gateway import OTHER_SITE, SITE, TOKEN, ContractGateway
from .devices import HOUSE
from .supervised import Supervised, supervised

NEW_TOKEN = "the-token-of-the-new-app"


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection_module, "next_delay", lambda _failures, _jitter: 0.02)


@pytest.fixture
async def gateway(gateway: ContractGateway) -> ContractGateway:
    gateway.devices = HOUSE
    return gateway


@pytest.fixture
async def new_app(socket_enabled: None) -> AsyncIterator[ContractGateway]:
    """A newly installed app elsewhere, with the same devices."""
    async with ContractGateway(tls=True, site=OTHER_SITE, token=NEW_TOKEN, devices=HOUSE) as gateway:
        gateway.hello = replace(gateway.hello, site=OTHER_SITE)
        yield gateway


def issue_of(hass: HomeAssistant, entry: MockConfigEntry) -> ir.IssueEntry | None:
    return ir.async_get(hass).async_get_issue(DOMAIN, f"other_gateway_{entry.entry_id}")


async def fix(hass: HomeAssistant, entry: MockConfigEntry) -> OtherGatewayFlow:
    """Open the fix flow of the issue."""
    await until(lambda: issue_of(hass, entry))
    issue = issue_of(hass, entry)
    assert issue
    assert issue.is_fixable
    return await flow_of(hass, issue.issue_id, issue.data)


async def flow_of(hass: HomeAssistant, issue_id: str, data: dict[str, Any] | None) -> OtherGatewayFlow:
    flow = await async_create_fix_flow(hass, issue_id, data)
    assert isinstance(flow, OtherGatewayFlow)
    flow.hass, flow.handler, flow.flow_id, flow.context = hass, DOMAIN, "1", {}
    return flow


async def lose_data(gateway: ContractGateway) -> None:
    """Make the gateway respond as another site."""
    gateway.hello = replace(gateway.hello, site=OTHER_SITE)
    await gateway.drop()


def known(hass: HomeAssistant, entry: MockConfigEntry) -> tuple[set[str], dict[str, str]]:
    """Return the device ids and entity names in the registries."""
    devices = dr.async_entries_for_config_entry(dr.async_get(hass), entry.entry_id)
    entities = er.async_entries_for_config_entry(er.async_get(hass), entry.entry_id)
    return {device.id for device in devices}, {entity.id: entity.entity_id for entity in entities}


async def test_devices_entities_and_open_alerts_are_kept_when_another_app_is_paired(
    hass: HomeAssistant, gateway: ContractGateway, linked: MockConfigEntry, new_app: ContractGateway
) -> None:
    hass.config_entries.async_update_entry(linked, options={**linked.options, "destinations": ["webhook"]})
    reply = await hass.services.async_call(DOMAIN, "alert", {"message": "Wet"}, blocking=True, return_response=True)
    before = known(hass, linked)
    assert len(before[1]) > 5
    await lose_data(gateway)
    flow = await fix(hass, linked)
    asked = await flow.async_step_init()
    assert (asked["type"], asked["step_id"]) == (FlowResultType.FORM, "line")
    assert (await flow.async_step_line({"line": new_app.line}))["type"] is FlowResultType.CREATE_ENTRY
    transition = await new_app.wait_for_message(Transition)
    assert reply
    assert [change.alert.id for change in transition.changes] == [reply["id"]]
    await until(lambda: linked.runtime_data.coordinator.connection.available)
    await hass.async_block_till_done()
    assert known(hass, linked) == before
    assert linked.unique_id == linked.data["site"] == OTHER_SITE
    assert (linked.options["notify_entities"], linked.options["destinations"]) == (["notify.hall"], [])
    assert hass.states.get("binary_sensor.kitchen_leak_wet")
    assert not issue_of(hass, linked)


async def test_a_malformed_line_and_the_app_of_another_site_are_refused(
    hass: HomeAssistant, gateway: ContractGateway, linked: MockConfigEntry, new_app: ContractGateway
) -> None:
    await lose_data(gateway)
    flow = await fix(hass, linked)
    assert (await flow.async_step_line({"line": new_app.line[:-1]}))["errors"] == {"line": "line_cut"}
    MockConfigEntry(domain=DOMAIN, unique_id=OTHER_SITE, data=dict(linked.data)).add_to_hass(hass)
    result = await flow.async_step_line({"line": new_app.line})
    assert (result["type"], result["reason"]) == (FlowResultType.ABORT, "already_configured")
    assert linked.data["site"] == SITE


async def test_the_apps_backup_restored_meanwhile_keeps_its_destinations(
    hass: HomeAssistant, gateway: ContractGateway, linked: MockConfigEntry, new_app: ContractGateway
) -> None:
    hass.config_entries.async_update_entry(linked, options={**linked.options, "destinations": ["webhook"]})
    await lose_data(gateway)
    flow = await fix(hass, linked)
    new_app.site, new_app.hello = SITE, replace(new_app.hello, site=SITE)
    assert (await flow.async_step_line({"line": new_app.line}))["type"] is FlowResultType.CREATE_ENTRY
    assert linked.options["destinations"] == ["webhook"]
    await until(lambda: new_app.sessions)
    await hass.async_block_till_done()


async def test_the_repair_of_a_removed_site_ends(hass: HomeAssistant) -> None:
    flow = await flow_of(hass, "other_gateway_x", {"issue": "other_gateway", "entry_id": "x"})
    assert (await flow.async_step_init())["reason"] == "gone"


@pytest.fixture
async def supervisor(hass: HomeAssistant, linked: MockConfigEntry) -> AsyncIterator[Supervised]:
    async with supervised(hass) as supervisor:
        yield supervisor
        await hass.async_block_till_done()


async def lose_data_of_supervised_app(gateway: ContractGateway, supervisor: Supervised) -> None:
    """Make the gateway reject old tokens and announce another site."""
    gateway.token = NEW_TOKEN
    supervisor.announced = {"host": "127.0.0.1", "port": gateway.port, "token": NEW_TOKEN, "site": OTHER_SITE}
    await supervisor.set_app_state(State.STARTED)
    await lose_data(gateway)


async def test_a_supervised_app_that_lost_its_data_needs_no_pairing_line(
    hass: HomeAssistant, gateway: ContractGateway, linked: MockConfigEntry, supervisor: Supervised
) -> None:
    before = known(hass, linked)
    await lose_data_of_supervised_app(gateway, supervisor)
    flow = await fix(hass, linked)
    assert not hass.config_entries.flow.async_progress_by_handler(DOMAIN), "no reauth flow is started as well"
    assert (await flow.async_step_init())["step_id"] == "use"
    assert (await flow.async_step_use({}))["type"] is FlowResultType.CREATE_ENTRY
    await until(lambda: not issue_of(hass, linked))
    await hass.async_block_till_done()
    await until(lambda: linked.runtime_data.coordinator.connection.available)
    await hass.async_block_till_done()
    assert known(hass, linked) == before
    assert (linked.data["site"], linked.data["token"]) == (OTHER_SITE, NEW_TOKEN)


async def test_a_supervised_app_that_has_stopped_is_an_error(
    hass: HomeAssistant, gateway: ContractGateway, linked: MockConfigEntry, supervisor: Supervised
) -> None:
    await lose_data_of_supervised_app(gateway, supervisor)
    flow = await fix(hass, linked)
    supervisor.messages = []
    assert (await flow.async_step_use({}))["errors"] == {"base": "gateway_away"}


async def test_a_supervised_app_that_only_lost_the_token_needs_a_pairing_line(
    hass: HomeAssistant, gateway: ContractGateway, linked: MockConfigEntry, supervisor: Supervised
) -> None:
    supervisor.announced = {"host": "127.0.0.1", "port": gateway.port, "token": TOKEN, "site": SITE}
    await supervisor.set_app_state(State.STARTED)
    other = App.mosquitto()
    supervisor.apps.append(other)
    elsewhere = {"host": "elsewhere", "port": 1, "token": TOKEN, "site": OTHER_SITE}
    supervisor.messages.insert(0, Message(other.slug, DOMAIN, elsewhere))
    gateway.token = NEW_TOKEN
    await gateway.drop()
    await until(lambda: hass.config_entries.flow.async_progress_by_handler(DOMAIN))
    assert not issue_of(hass, linked)
    gateway.token = TOKEN
    await until(lambda: not hass.config_entries.flow.async_progress_by_handler(DOMAIN))
