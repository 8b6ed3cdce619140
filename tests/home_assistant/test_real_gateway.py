"""Home Assistant, the real gateway process over TLS, a real broker, and virtual devices."""

import shutil
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from homeassistant.config_entries import SOURCE_USER, ConfigEntry, ConfigFlowResult
from homeassistant.core import HomeAssistant
from homeassistant.data_entry_flow import FlowResultType
from homeassistant.exceptions import HomeAssistantError, ServiceValidationError
from homeassistant.helpers import device_registry as dr
from homeassistant.helpers import instance_id
from homeassistant.helpers import issue_registry as ir
from pytest_homeassistant_custom_component.common import async_capture_events

from custom_components.process_cosmos.const import DOMAIN
from custom_components.process_cosmos.contract.destinations import SetWebhook
from custom_components.process_cosmos.contract.devices import Value
from custom_components.process_cosmos.coordinator import CosmosCoordinator
from custom_components.process_cosmos.flows.other_gateway import OtherGatewayFlow
from custom_components.process_cosmos.repairs import async_create_fix_flow
from process_cosmos_gateway.contract.devices import MissedChangesReport, Subscribe, ValueChanged
from process_cosmos_testbed.broker import Broker, running_broker
from process_cosmos_testbed.processes import free_port
from process_cosmos_testbed.virtual_devices.kinds import LeakSensor, Valve
from tests.gateway.api.link import RUN
from tests.gateway.gateway_process import GatewayProcess, gateway_process
from tests.support.waiting import until

from .links import notices

WET = "binary_sensor.cellar_leak"
WATER = "valve.water"


@dataclass(frozen=True, kw_only=True)
class LinkedSystem:
    """The running processes of a test."""

    broker: Broker
    gateway: GatewayProcess
    entry: ConfigEntry
    leak: LeakSensor
    valve: Valve

    @property
    def coordinator(self) -> CosmosCoordinator:
        coordinator: CosmosCoordinator = self.entry.runtime_data.coordinator
        return coordinator


async def pair(hass: HomeAssistant, line: str) -> ConfigFlowResult:
    flows = hass.config_entries.flow
    result = await flows.async_init(DOMAIN, context={"source": SOURCE_USER})
    result = await flows.async_configure(result["flow_id"], {"next_step_id": "pairing"})
    return await flows.async_configure(result["flow_id"], {"line": line})


async def set_up_with(hass: HomeAssistant, line: str) -> ConfigEntry:
    """Run the config flow with a pairing line."""
    flows = hass.config_entries.flow
    result = await pair(hass, line)
    for answer in (
        {"phones": [], "notify_entities": ["notify.hall"]},
        {"next_step_id": "finish"},
        {"test_notification": False, "install_blueprints": False},
    ):
        result = await flows.async_configure(result["flow_id"], answer)
    assert result["type"] is FlowResultType.CREATE_ENTRY
    return result["result"]


@pytest.fixture
async def system(
    hass: HomeAssistant, notify_entity: str, socket_enabled: None, tmp_path: Path
) -> AsyncIterator[LinkedSystem]:
    (tmp_path / "broker").mkdir()
    async with running_broker(tmp_path / "broker") as broker:
        options = f'mqtt_host = "127.0.0.1"\nmqtt_port = {broker.options.port}\n'
        async with (
            gateway_process(tmp_path, free_port(), options) as gateway,
            LeakSensor(broker.options, "leak-1", "Cellar") as leak,
            Valve(broker.options, "valve-1", "Water") as valve,
        ):
            entry = await set_up_with(hass, str(await gateway.pairing_line()))
            await until(lambda: shown(hass, WET) == "off" and shown(hass, WATER) == "open")
            yield LinkedSystem(broker=broker, gateway=gateway, entry=entry, leak=leak, valve=valve)
            await hass.async_block_till_done()
            await hass.config_entries.async_unload(entry.entry_id)


def shown(hass: HomeAssistant, entity_id: str) -> str | None:
    state = hass.states.get(entity_id)
    return state.state if state else None


async def test_a_leak_changes_a_state_and_an_action_moves_the_valve(hass: HomeAssistant, system: LinkedSystem) -> None:
    await system.leak.set(True)
    await until(lambda: shown(hass, WET) == "on")
    await hass.services.async_call("valve", "close_valve", {"entity_id": WATER}, blocking=True)
    await until(lambda: shown(hass, WATER) == "closed")
    assert [command.value for command in system.valve.commands] == [False]


async def test_a_killed_gateway_reconnects_before_entities_become_unavailable(
    hass: HomeAssistant, system: LinkedSystem
) -> None:
    written = async_capture_events(hass, "state_changed")
    await system.gateway.kill()
    await until(lambda: not system.coordinator.connection.session)
    await system.leak.set(True)  # while only the broker is running
    await system.gateway.start()
    await until(lambda: shown(hass, WET) == "on")
    states = [event.data["new_state"].state for event in written if event.data["entity_id"] == WET]
    assert states == ["on"]


async def test_changes_while_home_assistant_was_down_are_reported_afterwards(
    hass: HomeAssistant, system: LinkedSystem
) -> None:
    await hass.config_entries.async_unload(system.entry.entry_id)
    await system.leak.set(True)
    await system.leak.set(False)
    await wait_for_message(hass, system, [True, False])
    written = async_capture_events(hass, "state_changed")
    await hass.config_entries.async_setup(system.entry.entry_id)
    await until(lambda: shown(hass, WET) == "off")
    await until(lambda: notices(hass))
    [text] = notices(hass)
    assert ": wet " in text
    assert ", dry " in text
    assert "on" not in [event.data["new_state"].state for event in written if event.data["entity_id"] == WET]


async def wait_for_message(hass: HomeAssistant, system: LinkedSystem, values: list[Value]) -> None:
    """Wait until the gateway has received ``values`` of the leak sensor, in a session that confirms nothing."""
    received: list[Value | None] = []
    instance = await instance_id.async_get(hass)
    async with system.gateway.session(system.entry.data["token"], instance) as (link, _):
        await link.send(Subscribe(id="1", run=RUN, report_missed=True, confirmed=0))
        while received != values:
            match await link.next():
                case MissedChangesReport(changes=changes):
                    received += [missed.value for missed in changes if missed.property]
                case ValueChanged(value=value):
                    received.append(value)


async def test_a_write_without_the_broker_raises_at_once(hass: HomeAssistant, system: LinkedSystem) -> None:
    await system.broker.kill()  # no last will is sent, so the valve is not known to be offline
    await until(lambda: system.coordinator.status and not system.coordinator.status.status.broker_connected)
    with pytest.raises(HomeAssistantError) as caught:
        await hass.services.async_call("valve", "close_valve", {"entity_id": WATER}, blocking=True)
    assert caught.value.translation_key == "broker_away"


async def test_an_alert_is_applied_by_the_gateway(hass: HomeAssistant, system: LinkedSystem) -> None:
    reply = await hass.services.async_call(DOMAIN, "alert", {"message": "Wet"}, blocking=True, return_response=True)
    assert reply
    await hass.config_entries.async_reload(system.entry.entry_id)
    await until(lambda: system.coordinator.connection.session and system.coordinator.connection.session.hello.summaries)
    assert system.coordinator.connection.session
    assert [head.alert for head in system.coordinator.connection.session.hello.summaries] == [reply["id"]]


async def test_a_used_pairing_token_is_refused(hass: HomeAssistant, system: LinkedSystem) -> None:
    line = str(await system.gateway.pairing_line())
    assert (await pair(hass, line))["reason"] == "already_configured"
    assert (await pair(hass, line))["errors"] == {"line": "pairing_refused"}


async def test_a_gateway_that_lost_its_volume_is_paired_again_and_history_continues(
    hass: HomeAssistant, system: LinkedSystem
) -> None:
    reply = await hass.services.async_call(DOMAIN, "alert", {"message": "Wet"}, blocking=True, return_response=True)
    assert reply
    devices = {device.id for device in dr.async_entries_for_config_entry(dr.async_get(hass), system.entry.entry_id)}
    lost = system.entry.data["site"]
    await system.gateway.stop()
    shutil.rmtree(system.gateway.data)
    await system.gateway.start()
    issues = ir.async_get(hass)
    await until(lambda: issues.async_get_issue(DOMAIN, f"other_gateway_{system.entry.entry_id}"))
    issue = issues.async_get_issue(DOMAIN, f"other_gateway_{system.entry.entry_id}")
    assert issue
    flow = await async_create_fix_flow(hass, issue.issue_id, issue.data)
    assert isinstance(flow, OtherGatewayFlow)
    flow.hass, flow.handler, flow.flow_id, flow.context = hass, DOMAIN, "1", {}
    paired = await flow.async_step_line({"line": str(await system.gateway.pairing_line())})
    assert paired["type"] is FlowResultType.CREATE_ENTRY
    await hass.async_block_till_done()
    assert system.entry.data["site"] != lost
    await until(lambda: shown(hass, WET) == "off")
    await system.leak.set(True)
    await until(lambda: shown(hass, WET) == "on")
    known = {device.id for device in dr.async_entries_for_config_entry(dr.async_get(hass), system.entry.entry_id)}
    assert known == devices
    await hass.config_entries.async_reload(system.entry.entry_id)
    await until(lambda: system.coordinator.connection.session and system.coordinator.connection.session.hello.summaries)
    assert system.coordinator.connection.session
    assert [head.alert for head in system.coordinator.connection.session.hello.summaries] == [reply["id"]]


async def test_a_rejected_event_is_listed_sent_again_by_its_number_and_then_unknown(
    hass: HomeAssistant, system: LinkedSystem
) -> None:
    taken: list[dict[str, Any]] = []
    fixed = False

    async def receive(request: web.Request) -> web.Response:
        if fixed:
            taken.append(await request.json())
        return web.Response(status=200 if fixed else 422)

    application = web.Application()
    application.router.add_post("/hook", receive)
    async with TestServer(application, host="127.0.0.1") as receiver:
        await system.coordinator.connection.async_send_request(
            SetWebhook(id="1", name="hook", url=str(receiver.make_url("/hook")))
        )
        await hass.services.async_call(DOMAIN, "alert", {"message": "Wet"}, blocking=True)
        await until(lambda: shown(hass, "sensor.process_cosmos_rejected_events") == "1")
        listed = await hass.services.async_call(DOMAIN, "list_rejected", {}, blocking=True, return_response=True)
        assert listed
        [event] = cast("list[dict[str, Any]]", listed["events"])
        assert (event["destination"], event["code"]) == ("hook", "refused_by_destination")
        fixed = True
        await hass.services.async_call(DOMAIN, "send_again", {"numbers": [event["number"]]}, blocking=True)
        await until(lambda: taken)
        assert (taken[0]["id"], taken[0]["replayed"]) == (event["id"], True)
        await until(lambda: shown(hass, "sensor.process_cosmos_rejected_events") == "0")
        with pytest.raises(ServiceValidationError) as caught:
            await hass.services.async_call(DOMAIN, "send_again", {"numbers": [event["number"]]}, blocking=True)
        assert caught.value.translation_key == "unknown_rejected"
