"""Repair issues derived from the status of the app are created and deleted."""

from _collections_abc import dict_values
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, override
from unittest.mock import patch

import pytest
from homeassistant.core import HomeAssistant
from homeassistant.data_entry_flow import FlowResultType
from homeassistant.helpers import issue_registry as ir
from homeassistant.setup import async_setup_component
from pytest_homeassistant_custom_component.common import MockConfigEntry
from pytest_homeassistant_custom_component.typing import ClientSessionGenerator

from custom_components.process_cosmos.const import DOMAIN
from custom_components.process_cosmos.contract.destinations import (
    BrokerLink,
    Drop,
    Priority,
    Recovered,
    Status,
    StorageState,
)
from custom_components.process_cosmos.issues.site_issues import clear_all_issues
from custom_components.process_cosmos.issues.status_issues import show_status
from custom_components.process_cosmos.repairs import AcknowledgeOccurrenceFlow, async_create_fix_flow
from tests.support.waiting import until

from .contract_gateway import IDLE, ContractGateway

BROKER = "binary_sensor.process_cosmos_mqtt_broker"
RECOVERED = Recovered(kept=120, lost=3, at=datetime(2026, 11, 21, 11, 30, tzinfo=UTC))


def shown(hass: HomeAssistant) -> dict[str, dict[str, str] | None]:
    """Return the active issues with their placeholders."""
    issues = ir.async_get(hass).issues.values()
    return {str(issue.translation_key): issue.translation_placeholders for issue in issues if issue.domain == DOMAIN}


def dropped(priority: Priority, reason: str, count: int) -> Drop:
    return Drop(priority=priority, reason=reason, count=count)


def with_broker(**said: Any) -> Status:  # noqa: ANN401 - members of all kinds
    return replace(IDLE, broker=BrokerLink(**said))


def troubled(reason: str) -> Status:
    return with_broker(reason=reason, needs_help=True)


@pytest.mark.parametrize(
    ("status", "issue", "says"),
    [
        (replace(IDLE, full=(Priority.URGENT,)), "outbox_full_urgent", {}),
        (replace(IDLE, full=(Priority.CHANGE,)), "outbox_full_change", {}),
        (replace(IDLE, full=(Priority.READING,)), "outbox_full_reading", {}),
        (replace(IDLE, storage=StorageState.FULL, storage_reason="no room"), "storage_full", {"reason": "no room"}),
        (replace(IDLE, storage=StorageState.READ_ONLY), "storage_read_only", {"reason": "read_only"}),
        (replace(IDLE, storage=StorageState.FAILING, storage_reason="I/O"), "storage_failing", {"reason": "I/O"}),
        (replace(IDLE, identity_conflict=True), "identity_conflict", {}),
        (troubled("timeout"), "broker_away", {"reason": "timeout"}),
        (troubled("a_reason_of_a_newer_app"), "broker_away", {"reason": "a_reason_of_a_newer_app"}),
        (troubled("login_refused"), "broker_login_refused", {"reason": "login_refused"}),
        (troubled("certificate"), "broker_certificate", {"reason": "certificate"}),
        (troubled("broker_refused"), "broker_refused", {"reason": "broker_refused"}),
        (with_broker(denied=("a/b", "c")), "broker_denied", {"names": "- `a/b`\n- `c`"}),
        (with_broker(limited=("wot/tank",)), "device_limited", {"names": "- `wot/tank`"}),
        (with_broker(max_qos=0), "broker_qos", {}),
        (with_broker(turned_away=True), "too_many_devices", {}),
    ],
)
async def test_a_condition_is_shown_while_it_lasts(
    hass: HomeAssistant,
    gateway: ContractGateway,
    linked: MockConfigEntry,
    *,
    status: Status,
    issue: str,
    says: dict[str, str],
) -> None:
    await gateway.send(status)
    await until(lambda: shown(hass) == {issue: {"site": "Process Cosmos", **says}})
    await gateway.send(IDLE)
    await until(lambda: not shown(hass))


async def test_a_broker_unreachable_for_less_than_ten_minutes_is_not_an_issue(
    hass: HomeAssistant, gateway: ContractGateway, linked: MockConfigEntry
) -> None:
    await gateway.send(with_broker(reason="timeout"))
    await until(lambda: (found := hass.states.get(BROKER)) and found.attributes.get("reason") == "timeout")
    assert not shown(hass)


async def test_the_brokers_state_is_shown(
    hass: HomeAssistant, gateway: ContractGateway, linked: MockConfigEntry
) -> None:
    await gateway.send(replace(with_broker(version="5"), broker_connected=True))
    await until(lambda: (found := hass.states.get(BROKER)) and found.state == "on")
    await gateway.send(replace(with_broker(reason="login_refused", needs_help=True), broker_connected=False))
    await until(lambda: (found := hass.states.get(BROKER)) and found.state == "off")
    await gateway.send(replace(IDLE, broker_connected=False))
    await until(lambda: (found := hass.states.get(BROKER)) and found.state == "unavailable")


async def test_a_new_session_does_not_delete_the_issue_of_a_lasting_condition(
    hass: HomeAssistant, gateway: ContractGateway, linked: MockConfigEntry
) -> None:
    gateway.status = replace(IDLE, storage=StorageState.FULL)
    await gateway.send(gateway.status)
    await until(lambda: "storage_full" in shown(hass))
    coordinator = linked.runtime_data.coordinator
    await gateway.drop()
    await until(lambda: gateway.sessions == 2 and coordinator.connection.available)
    assert "storage_full" in shown(hass)


ONCE = replace(IDLE, recovered=RECOVERED)
AGAIN = replace(IDLE, recovered=replace(RECOVERED, at=datetime(2026, 11, 22, 11, 30, tzinfo=UTC)))
UNKNOWN = replace(IDLE, recovered=replace(RECOVERED, lost_unknown=True))
AGAIN_UNKNOWN = replace(AGAIN, recovered=replace(RECOVERED, lost_unknown=True, at=datetime(2026, 11, 22, tzinfo=UTC)))
LOST = replace(IDLE, drops=(dropped(Priority.URGENT, "damaged", 1), dropped(Priority.CHANGE, "quota", 5)))
LOST_MORE = replace(IDLE, drops=(dropped(Priority.CHANGE, "quota", 7),))
OVERFLOWN = replace(IDLE, drops=(dropped(Priority.READING, "quota", 20), dropped(Priority.READING, "volume", 900)))
OVERFLOWN_MORE = replace(IDLE, drops=(dropped(Priority.READING, "disk", 21),))


@pytest.mark.parametrize(
    ("first", "second", "issue", "says"),
    [
        (ONCE, AGAIN, "store_recovered", {"kept": "120", "lost": "3", "at": "2026-11-21 03:30"}),
        (UNKNOWN, AGAIN_UNKNOWN, "store_lost", {"kept": "120", "lost": "3", "at": "2026-11-21 03:30"}),
        (LOST, LOST_MORE, "events_dropped", {"urgent": "1", "changes": "5"}),
        (OVERFLOWN, OVERFLOWN_MORE, "readings_dropped", {"count": "20"}),
        (replace(IDLE, broker_dropped=17), replace(IDLE, broker_dropped=18), "broker_drops", {"count": "17"}),
    ],
)
async def test_an_occurrence_is_an_issue_until_read_and_again_after_the_next_one(
    hass: HomeAssistant,
    gateway: ContractGateway,
    linked: MockConfigEntry,
    *,
    first: Status,
    second: Status,
    issue: str,
    says: dict[str, str],
) -> None:
    await gateway.send(first)
    await until(lambda: issue in shown(hass))
    flow = await fix_flow(hass, issue)
    form = await flow.async_step_init()
    assert (form["type"], form["step_id"]) == (FlowResultType.FORM, "confirm")
    assert form["description_placeholders"] == says
    assert (await flow.async_step_confirm({}))["type"] is FlowResultType.CREATE_ENTRY
    await gateway.send(first)
    await until(lambda: not shown(hass))
    await gateway.send(second)
    await until(lambda: issue in shown(hass))


@pytest.mark.filterwarnings("ignore:It is recommended to use web.*")  # Home Assistant's own http
async def test_an_occurrence_is_read_in_home_assistants_own_dialog(
    hass: HomeAssistant, gateway: ContractGateway, linked: MockConfigEntry, hass_client: ClientSessionGenerator
) -> None:
    assert await async_setup_component(hass, "repairs", {})
    await gateway.send(ONCE)
    await until(lambda: shown(hass))
    client = await hass_client()
    begin = {"handler": DOMAIN, "issue_id": f"store_recovered_{linked.entry_id}"}
    async with client.post("/api/repairs/issues/fix", json=begin) as reply:
        form = await reply.json()
    assert (form["step_id"], form["description_placeholders"]["lost"]) == ("confirm", "3")
    async with client.post(f"/api/repairs/issues/fix/{form['flow_id']}", json={}) as reply:
        assert (await reply.json())["type"] == "create_entry"
    await gateway.send(replace(ONCE, rejected=1))
    await until(lambda: list(shown(hass)) == ["rejected_events"])


async def test_a_read_occurrence_stays_read_after_a_reload(
    hass: HomeAssistant, gateway: ContractGateway, linked: MockConfigEntry
) -> None:
    gateway.status = ONCE
    await gateway.send(ONCE)
    await until(lambda: shown(hass))
    flow = await fix_flow(hass, "store_recovered")
    await flow.async_step_init()
    await flow.async_step_confirm({})
    assert await hass.config_entries.async_reload(linked.entry_id)
    await until(lambda: linked.runtime_data.coordinator.status)
    assert not shown(hass)


async def test_an_occurrence_during_the_dialog_is_shown_again(
    hass: HomeAssistant, gateway: ContractGateway, linked: MockConfigEntry
) -> None:
    await gateway.send(LOST)
    await until(lambda: shown(hass))
    flow = await fix_flow(hass, "events_dropped")
    await flow.async_step_init()
    await gateway.send(LOST_MORE)
    await until(lambda: linked.runtime_data.coordinator.status.status == LOST_MORE)
    await flow.async_step_confirm({})
    await gateway.send(LOST_MORE)
    await gateway.send(replace(LOST_MORE, rejected=1))
    await until(lambda: "rejected_events" in shown(hass))
    assert "events_dropped" in shown(hass)


async def test_the_dialog_of_an_occurrence_the_app_no_longer_reports_ends(
    hass: HomeAssistant, gateway: ContractGateway, linked: MockConfigEntry
) -> None:
    await gateway.send(ONCE)
    await until(lambda: shown(hass))
    flow = await fix_flow(hass, "store_recovered")
    await gateway.send(IDLE)
    await until(lambda: not shown(hass))
    assert (await flow.async_step_init())["type"] is FlowResultType.CREATE_ENTRY


async def test_configured_drops_are_not_an_issue(
    hass: HomeAssistant, gateway: ContractGateway, linked: MockConfigEntry
) -> None:
    asked_for = tuple(
        dropped(priority, reason, 5)
        for priority in Priority
        for reason in ("superseded", "expired", "volume", "a reason of tomorrow")
    )
    await gateway.send(replace(IDLE, drops=asked_for, rejected=1))
    await until(lambda: shown(hass))
    assert list(shown(hass)) == ["rejected_events"]


async def test_the_dialog_of_a_site_that_is_not_loaded_ends(
    hass: HomeAssistant, gateway: ContractGateway, linked: MockConfigEntry
) -> None:
    await gateway.send(ONCE)
    await until(lambda: shown(hass))
    flow = await fix_flow(hass, "store_recovered")
    assert await hass.config_entries.async_unload(linked.entry_id)
    assert (await flow.async_step_init())["reason"] == "gateway_away"


async def test_a_status_does_not_iterate_over_all_issues(
    hass: HomeAssistant, gateway: ContractGateway, linked: MockConfigEntry
) -> None:
    """A status arrives every second, and there may be hundreds of issues."""
    registry = ir.async_get(hass)
    with patch.object(registry, "issues", Counted(registry.issues)) as issues:
        show_status(hass, linked, IDLE)
        assert issues.walks == 0
        clear_all_issues(hass, linked)
        assert issues.walks > 0


class Counted(dict[tuple[str, str], ir.IssueEntry]):
    """A dictionary that counts iterations."""

    walks = 0

    @override
    def __iter__(self) -> Iterator[tuple[str, str]]:
        self.walks += 1
        return super().__iter__()

    @override
    def values(self) -> dict_values[tuple[str, str], ir.IssueEntry]:
        self.walks += 1
        return super().values()


async def fix_flow(hass: HomeAssistant, key: str) -> AcknowledgeOccurrenceFlow:
    """Return the fix flow of an issue, as Home Assistant opens it."""
    issue = next(issue for issue in ir.async_get(hass).issues.values() if issue.translation_key == key)
    assert issue.is_fixable
    flow = await async_create_fix_flow(hass, issue.issue_id, issue.data)
    assert isinstance(flow, AcknowledgeOccurrenceFlow)
    flow.hass, flow.handler, flow.flow_id, flow.context = hass, DOMAIN, "1", {}
    return flow


async def test_continuously_dropped_readings_are_an_issue_once_it_stops(
    hass: HomeAssistant, gateway: ContractGateway, linked: MockConfigEntry
) -> None:
    await gateway.send(replace(OVERFLOWN, full=(Priority.READING,)))
    await until(lambda: set(shown(hass)) == {"outbox_full_reading"})
    await gateway.send(replace(OVERFLOWN_MORE, full=()))
    await until(lambda: set(shown(hass)) == {"readings_dropped"})
