"""The connection to the gateway over time: lost, restored, refused, closed."""

import logging
import os
import threading
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from homeassistant.const import EVENT_HOMEASSISTANT_STOP
from homeassistant.core import HomeAssistant
from homeassistant.helpers import device_registry as dr
from homeassistant.helpers import entity_registry as er
from homeassistant.helpers import issue_registry as ir
from homeassistant.loader import async_get_integration
from homeassistant.util import dt as dt_util
from hypothesis import given
from hypothesis import strategies as st
from pytest_homeassistant_custom_component.common import (
    MockConfigEntry,
    async_capture_events,
    async_fire_time_changed,
)

from custom_components.process_cosmos.const import AVAILABLE_FOR, DOMAIN, LOGGER, UNREACHABLE_AFTER, VERSION
from custom_components.process_cosmos.contract.alerts import CaughtUp, Notified, Propose, Transition
from custom_components.process_cosmos.contract.destinations import RemoveDestination
from custom_components.process_cosmos.contract.devices import Subscribe, ValueChanged
from custom_components.process_cosmos.contract.identifiers import NotificationKey, Ulid
from custom_components.process_cosmos.contract.messages import FromHomeAssistant
from custom_components.process_cosmos.contract.session import Heartbeat, HomeAssistantHello, Refused, Stopping
from custom_components.process_cosmos.gateway import connection as connection_module
from custom_components.process_cosmos.gateway.backoff import FIRST_DELAY, MAX_DELAY, next_delay
from custom_components.process_cosmos.gateway.devices import KEEP_FOR, MAX_KEYS, DeviceStates, RecentEvents
from tests.support.waiting import until

from .conftest import set_up
from .contract_gateway import IDLE, OTHER_SITE, ContractGateway
from .devices import HOUSE

WET = "binary_sensor.kitchen_leak_wet"


@pytest.fixture
async def gateway(gateway: ContractGateway, monkeypatch: pytest.MonkeyPatch) -> ContractGateway:
    monkeypatch.setattr(connection_module, "next_delay", lambda _failures, _jitter: 0.02)
    gateway.devices = HOUSE
    return gateway


async def test_a_slow_disk_does_not_end_the_session(
    hass: HomeAssistant, linked: MockConfigEntry, gateway: ContractGateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    await gateway.wait_for_message(CaughtUp)
    gateway.receipts = False
    presence = linked.runtime_data.alerts.gateway_presence
    received, note = list[None](), presence.async_mark_active
    monkeypatch.setattr(presence, "async_mark_active", lambda: received.append(note()))
    released = threading.Event()
    fsync = os.fsync

    def slow(file: int) -> None:
        released.wait(10)
        fsync(file)

    monkeypatch.setattr("custom_components.process_cosmos.alerts.record_log.os.fsync", slow)
    unknown = Ulid("01JD0000000000000000000001")
    proposal = Propose(id="", alert=unknown, revision=None, answer="Yes", age=0.0, by="Eve")
    try:
        for number in range(12):
            await gateway.send(replace(proposal, id=str(number)), Heartbeat())
        await until(lambda: len(received) >= 24)
        assert not gateway.received_of(Transition)
    finally:
        released.set()
    await gateway.wait_for_message(Transition)


def state(hass: HomeAssistant, entity_id: str = WET) -> str:
    shown = hass.states.get(entity_id)
    assert shown
    return shown.state


def issues(hass: HomeAssistant) -> set[str]:
    return {str(issue.translation_key) for _, issue in ir.async_get(hass).issues.items() if issue.domain == DOMAIN}


async def pass_time(hass: HomeAssistant, seconds: float) -> None:
    async_fire_time_changed(hass, dt_util.utcnow() + timedelta(seconds=seconds))
    await hass.async_block_till_done()


async def disconnect(hass: HomeAssistant, gateway: ContractGateway, entry: MockConfigEntry) -> None:
    await gateway.stop()
    await until(lambda: not entry.runtime_data.coordinator.connection.session)


async def reconnect(hass: HomeAssistant, gateway: ContractGateway, entry: MockConfigEntry) -> None:
    coordinator = entry.runtime_data.coordinator
    await gateway.start()
    # The previous state stays valid until there is a session again.
    await until(lambda: coordinator.connection.session is not None and coordinator._snapshot_applied.is_set())
    await hass.async_block_till_done()


@given(st.integers(min_value=1, max_value=10_000), st.floats(min_value=0, max_value=1))
def test_the_delay_between_attempts_is_bounded(failures: int, jitter: float) -> None:
    assert FIRST_DELAY / 2 <= next_delay(failures, jitter) <= MAX_DELAY
    assert next_delay(failures, jitter) <= next_delay(failures + 1, jitter)


def test_a_key_expires_after_ten_minutes_or_when_there_are_too_many() -> None:
    keys = RecentEvents()
    assert not keys.remember("a", 0)
    assert keys.remember("a", 1)
    assert not keys.remember("a", 2 + KEEP_FOR)
    for number in range(MAX_KEYS + 1):
        keys.remember(str(number), 3 + KEEP_FOR)
    assert not keys.remember("a", 3 + KEEP_FOR)


async def test_entities_stay_available_during_a_restart_of_the_gateway(
    hass: HomeAssistant, gateway: ContractGateway, linked: MockConfigEntry
) -> None:
    written = async_capture_events(hass, "state_changed")
    await disconnect(hass, gateway, linked)
    assert state(hass) == "off"
    await reconnect(hass, gateway, linked)
    await pass_time(hass, AVAILABLE_FOR + 1)
    assert state(hass) == "off"
    assert not [event for event in written if event.data["entity_id"] == WET]


async def test_entities_stay_available_for_ten_seconds_only(
    hass: HomeAssistant, gateway: ContractGateway, linked: MockConfigEntry, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.clear()
    await disconnect(hass, gateway, linked)
    await pass_time(hass, AVAILABLE_FOR - 2)
    assert state(hass) == "off"
    await pass_time(hass, AVAILABLE_FOR + 1)
    assert state(hass) == state(hass, "sensor.process_cosmos_rejected_events") == "unavailable"
    assert state(hass, "sensor.process_cosmos_open_alerts") == "0"
    await reconnect(hass, gateway, linked)
    await until(lambda: state(hass) == "off")
    said = [one.message for one in caplog.records if one.name == LOGGER.name and one.levelno >= logging.INFO]
    assert said == [
        "Process Cosmos: no connection to the gateway, its entities are unavailable",
        "Process Cosmos: connected to the gateway, version 9.8.7",
    ]


async def test_changes_missed_meanwhile_are_applied_first_and_in_order(
    hass: HomeAssistant, gateway: ContractGateway, linked: MockConfigEntry
) -> None:
    written = async_capture_events(hass, "state_changed")
    await disconnect(hass, gateway, linked)
    await pass_time(hass, AVAILABLE_FOR + 1)
    wet = ValueChanged(sequence=101, device="leak-1", property="wet", value=True, age=3)
    gateway.replay = (wet, replace(wet, sequence=102, value=False))
    await reconnect(hass, gateway, linked)
    await until(lambda: len([event for event in written if event.data["entity_id"] == WET]) >= 3)
    shown = [event.data["new_state"].state for event in written if event.data["entity_id"] == WET]
    assert shown == ["unavailable", "on", "off"]
    assert [request.after for request in gateway.received_of(Subscribe)] == [None, 100]


async def test_an_unreachable_gateway_is_an_issue_until_it_responds(
    hass: HomeAssistant, gateway: ContractGateway, linked: MockConfigEntry
) -> None:
    await disconnect(hass, gateway, linked)
    await pass_time(hass, UNREACHABLE_AFTER - 5)
    assert issues(hass) == set()
    await pass_time(hass, UNREACHABLE_AFTER + 1)
    assert issues(hass) == {"gateway_unreachable"}
    await reconnect(hass, gateway, linked)
    await until(lambda: issues(hass) == set())


async def test_a_site_is_loaded_and_people_are_notified_without_its_gateway(
    hass: HomeAssistant, gateway: ContractGateway, site: MockConfigEntry
) -> None:
    await gateway.stop()
    await set_up(hass, site)
    calls = async_capture_events(hass, "call_service")
    await hass.services.async_call(DOMAIN, "alert", {"message": "Wet"}, blocking=True)
    await until(lambda: [event for event in calls if event.data["service"] == "send_message"])
    await pass_time(hass, UNREACHABLE_AFTER + 1)
    assert issues(hass) == {"gateway_unreachable"}


@pytest.fixture
def refusal_is_issue(
    hass: HomeAssistant, gateway: ContractGateway, site: MockConfigEntry
) -> Callable[[str, str], Awaitable[None]]:
    async def check_refusal(code: str, issue: str) -> None:
        gateway.refused = Refused(code=code, message="No")
        await set_up(hass, site)
        await until(lambda: issues(hass) == {issue})
        (shown,) = ir.async_get(hass).issues.values()
        assert bool(shown.learn_more_url) is issue.startswith("schema"), "which side to update, and how"
        await pass_time(hass, UNREACHABLE_AFTER + 1)
        assert issues(hass) == {issue}, "it responds, so it is not reported as unreachable"
        gateway.refused = None
        await until(lambda: issues(hass) == set())

    return check_refusal


async def test_a_gateway_that_reports_us_as_too_old_is_an_issue_until_it_accepts_us(
    refusal_is_issue: Callable[[str, str], Awaitable[None]],
) -> None:
    await refusal_is_issue("schema_too_old", "schema_too_new")


async def test_a_gateway_that_reports_us_as_too_new_is_an_issue_until_it_accepts_us(
    refusal_is_issue: Callable[[str, str], Awaitable[None]],
) -> None:
    await refusal_is_issue("schema_too_new", "schema_too_old")


async def test_a_gateway_that_serves_another_home_assistant_is_an_issue_until_it_accepts_us(
    refusal_is_issue: Callable[[str, str], Awaitable[None]],
) -> None:
    await refusal_is_issue("other_home_assistant", "other_home_assistant")


async def test_any_other_refusal_is_an_issue_with_its_code_and_is_retried(
    hass: HomeAssistant,
    gateway: ContractGateway,
    site: MockConfigEntry,
    refusal_is_issue: Callable[[str, str], Awaitable[None]],
) -> None:
    await refusal_is_issue("store_failed", "refused")
    assert len(gateway.received_of(HomeAssistantHello)) > 1


async def test_a_gateway_that_refused_and_then_disconnected_is_reported_as_unreachable(
    hass: HomeAssistant, gateway: ContractGateway, linked: MockConfigEntry
) -> None:
    gateway.refused = Refused(code="store_failed", message="The disk is full")
    await gateway.drop()
    await until(lambda: issues(hass) == {"refused"})
    await gateway.stop()
    await until(lambda: not linked.runtime_data.coordinator.connection._refused)
    await pass_time(hass, UNREACHABLE_AFTER + 1)
    assert "gateway_unreachable" in issues(hass)


async def test_sessions_without_a_snapshot_make_nothing_available(
    hass: HomeAssistant, gateway: ContractGateway, linked: MockConfigEntry, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def listen_only(message: FromHomeAssistant) -> None:
        gateway.received.append(message)

    monkeypatch.setattr(gateway, "_answer", listen_only)
    sessions = gateway.sessions
    await gateway.drop()
    await until(lambda: gateway.sessions > sessions)
    await pass_time(hass, AVAILABLE_FOR + 1)
    assert state(hass) == "unavailable"
    await gateway.drop()
    await until(lambda: gateway.sessions > sessions + 1)
    await pass_time(hass, AVAILABLE_FOR + 1)
    assert state(hass) == "unavailable"


async def test_a_huge_age_does_not_end_the_session(
    hass: HomeAssistant, gateway: ContractGateway, linked: MockConfigEntry
) -> None:
    alerts = linked.runtime_data.alerts
    opened = await hass.services.async_call(DOMAIN, "alert", {"message": "Wet"}, blocking=True, return_response=True)
    assert opened
    sessions = gateway.sessions
    key = NotificationKey(alert=Ulid(str(opened["id"])), revision=1, level=1, round=0, recipient="destination:cloud")
    await gateway.send(Notified(key=key, reached=True, age=1e300), replace(IDLE, oldest_waiting_age=1e300, rejected=1))
    await until(lambda: "rejected_events" in issues(hass))
    await until(lambda: alerts._journal.outcomes[key.alert].reached)
    assert gateway.sessions == sessions


async def test_the_gateway_of_another_site_is_an_issue_and_gets_no_alerts(
    hass: HomeAssistant, gateway: ContractGateway, site: MockConfigEntry
) -> None:
    right, gateway.hello = gateway.hello, replace(gateway.hello, site=OTHER_SITE)
    await set_up(hass, site)
    await until(lambda: issues(hass) == {"other_gateway"})
    assert not gateway.received_of(CaughtUp)
    assert not gateway.received_of(Subscribe)
    gateway.hello = right
    await until(lambda: issues(hass) == set())


async def test_an_unknown_token_starts_a_reauth_flow(
    hass: HomeAssistant, gateway: ContractGateway, site: MockConfigEntry
) -> None:
    gateway.token = "another-token"
    await set_up(hass, site)
    await until(lambda: hass.config_entries.flow.async_progress_by_handler(DOMAIN))
    (flow,) = hass.config_entries.flow.async_progress_by_handler(DOMAIN)
    assert flow["step_id"] == "reauth_confirm"


async def test_an_exception_in_a_session_does_not_stop_reconnecting(
    hass: HomeAssistant,
    gateway: ContractGateway,
    linked: MockConfigEntry,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    def stumble(*_: object) -> None:
        raise KeyError("a bug")

    monkeypatch.setattr(DeviceStates, "apply_change", stumble)
    sessions = gateway.sessions
    await gateway.send(ValueChanged(sequence=101, device="leak-1", property="wet", value=True, age=0))
    await until(lambda: gateway.sessions > sessions)
    assert "a bug" in caplog.text
    caplog.clear()


async def test_alerts_are_sent_and_proposals_recorded(
    hass: HomeAssistant, gateway: ContractGateway, linked: MockConfigEntry
) -> None:
    await gateway.wait_for_message(CaughtUp)
    call = {"message": "Wet", "answers": [{"name": "Keep off"}]}
    reply = await hass.services.async_call(DOMAIN, "alert", call, blocking=True, return_response=True)
    assert reply
    opened = await gateway.wait_for_message(Transition)
    assert opened.changes[0].alert.id == reply["id"]
    proposal = Propose(id="item-1", alert=Ulid(str(reply["id"])), revision=1, answer="Keep off", age=0, by="Cloud")
    await gateway.send(proposal)
    await until(lambda: [one for one in gateway.received_of(Transition) if one.proposal == "item-1"])
    assert not linked.runtime_data.alerts.alive


async def test_the_stop_of_home_assistant_is_announced(
    hass: HomeAssistant, gateway: ContractGateway, linked: MockConfigEntry
) -> None:
    hass.bus.async_fire(EVENT_HOMEASSISTANT_STOP)
    await gateway.wait_for_message(Stopping)


async def test_a_stop_without_a_session_is_silent(
    hass: HomeAssistant, gateway: ContractGateway, linked: MockConfigEntry
) -> None:
    await disconnect(hass, gateway, linked)
    hass.bus.async_fire(EVENT_HOMEASSISTANT_STOP)
    await hass.async_block_till_done()
    assert not gateway.received_of(Stopping)


async def test_unloading_closes_the_session_and_loading_opens_it_again(
    hass: HomeAssistant, gateway: ContractGateway, linked: MockConfigEntry
) -> None:
    assert await hass.config_entries.async_unload(linked.entry_id)
    assert state(hass) == "unavailable"
    await set_up_again(hass, linked)
    await until(lambda: state(hass) == "off")
    assert gateway.sessions == 2


async def set_up_again(hass: HomeAssistant, entry: MockConfigEntry) -> None:
    assert await hass.config_entries.async_setup(entry.entry_id)
    await until(lambda: entry.runtime_data.coordinator.status)
    await hass.async_block_till_done()


async def test_removal_leaves_nothing_behind(
    hass: HomeAssistant, gateway: ContractGateway, linked: MockConfigEntry, config_folder: Path
) -> None:
    await hass.services.async_call(DOMAIN, "alert", {"message": "Wet"}, blocking=True)
    await disconnect(hass, gateway, linked)
    await pass_time(hass, UNREACHABLE_AFTER + 1)
    assert list((config_folder / ".storage").glob(f"{DOMAIN}*"))
    assert issues(hass)
    assert await hass.config_entries.async_remove(linked.entry_id)
    await hass.async_block_till_done()
    assert not list((config_folder / ".storage").glob(f"{DOMAIN}*"))
    assert not issues(hass)
    assert not dr.async_entries_for_config_entry(dr.async_get(hass), linked.entry_id)
    assert not er.async_entries_for_config_entry(er.async_get(hass), linked.entry_id)


async def test_removal_deletes_the_destinations_of_the_gateway(
    hass: HomeAssistant, gateway: ContractGateway, linked: MockConfigEntry
) -> None:
    hass.config_entries.async_update_entry(linked, options={**linked.options, "destinations": ["webhook", "cloud"]})
    assert await hass.config_entries.async_remove(linked.entry_id)
    assert [request.name for request in gateway.received_of(RemoveDestination)] == ["webhook", "cloud"]


async def test_the_version_has_the_same_form_everywhere(hass: HomeAssistant) -> None:

    assert str((await async_get_integration(hass, DOMAIN)).version) == VERSION
