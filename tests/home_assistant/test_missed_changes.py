"""Missed changes are reported once to people, and trigger nothing."""

import asyncio
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from homeassistant.core import HomeAssistant, ServiceCall
from pytest_homeassistant_custom_component.common import MockConfigEntry

from custom_components.process_cosmos.contract.devices import (
    Device,
    MissedChange,
    MissedChangesReport,
    Property,
    PropertyKind,
    Snapshot,
    Subscribe,
    ValueChanged,
)
from custom_components.process_cosmos.contract.session import Heartbeat
from custom_components.process_cosmos.gateway.devices import DeviceStates
from custom_components.process_cosmos.gateway.missed_changes import summary
from tests.support.waiting import until

from .contract_gateway import ContractGateway
from .devices import LEAK, ROOM, VALVE
from .links import notices
from .test_link import disconnect, reconnect

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)
BEGAN = NOW - timedelta(minutes=20)
BEFORE = NOW - timedelta(days=365)


def things(*devices: Device) -> DeviceStates:
    held = DeviceStates()
    held.apply_snapshot(Snapshot(sequence=1, devices=devices))
    return held


def report(*changes: MissedChange, more: int = 0) -> MissedChangesReport:
    return MissedChangesReport(since=1200, changes=changes, more=more)


def read(
    message: MissedChangesReport, *silent: tuple[str, str], began: datetime = BEGAN, added: datetime = BEFORE
) -> list[str]:
    text = summary(things(LEAK, VALVE, ROOM), message, silent, began=began, added=added, now=NOW)
    return text.splitlines() if text else []


@pytest.fixture(autouse=True)
async def _utc(hass: HomeAssistant) -> None:
    await hass.config.async_set_time_zone("UTC")


def test_each_property_has_a_line_with_its_changes_in_order() -> None:
    dry = MissedChange(device="leak-1", age=300, property="wet", value=False)
    wet = MissedChange(device="leak-1", age=600, property="wet", value=True)
    shut = MissedChange(device="valve-1", age=590, property="open", value=False)
    pressed = MissedChange(device="leak-1", age=60, event="button")
    assert read(report(dry, wet, shut, pressed)) == [
        "Changes while offline (11:40 to 12:00):",
        "- Kitchen leak, Wet: wet 11:50, dry 11:55",
        "- Main valve, Water: closed 11:50",
        "- Kitchen leak, Button: 11:59",
    ]


def test_a_change_known_only_by_its_final_value_has_no_time() -> None:
    siren = MissedChange(device="valve-1", age=60, property="siren", value=True)
    assert read(report(siren), ("valve-1", "siren"), ("valve-1", "open")) == [
        "Changes while offline (11:40 to 12:00):",
        "- Main valve, Siren: on 11:59",
        "- Main valve, Water: now open",
    ]


def test_changes_before_the_site_was_added_or_of_unknown_devices_are_omitted() -> None:
    assert read(report()) == []
    assert read(report(MissedChange(device="leak-1", age=1300, property="wet", value=True)), added=BEGAN) == []
    assert read(report(MissedChange(device="gone", age=60, property="wet", value=True)), ("gone", "wet")) == []


def test_changes_sent_before_the_lost_connection_was_noticed_are_reported() -> None:
    assert read(report(MissedChange(device="leak-1", age=1260, property="wet", value=True))) == [
        "Changes while offline (11:39 to 12:00):",
        "- Kitchen leak, Wet: wet 11:39",
    ]


def test_long_lists_are_shortened_and_counted() -> None:
    drips = [MissedChange(device="leak-1", age=60 * age, property="wet", value=age % 2 == 0) for age in range(9, 0, -1)]
    assert read(report(*drips, more=4)) == [
        "Changes while offline (11:40 to 12:00):",
        "- Kitchen leak, Wet: dry 11:51, wet 11:52, 4 more, dry 11:57, wet 11:58, dry 11:59",
        "- and 4 more",
    ]
    names = [f"p{number}" for number in range(25)]
    many = Device(
        id="many",
        title="Many",
        properties=tuple(Property(name=name, title=name, kind=PropertyKind.TEXT) for name in names),
    )
    changes = [MissedChange(device="many", age=60, property=name, value="x" * 100) for name in names]
    text = summary(things(many), report(*changes), (), began=BEGAN, added=BEFORE, now=NOW)
    assert text
    assert len(text.splitlines()) == 22
    assert text.endswith("- and 5 more")
    assert "x" * 51 not in text


def test_times_of_another_day_have_a_date() -> None:
    wet = MissedChange(device="leak-1", age=90_000, property="wet", value=True)
    first, line = read(report(wet), began=NOW - timedelta(days=2))
    assert first == "Changes while offline (2026-11-20 12:00 to 12:00):"
    assert line.endswith("wet 2026-11-21 11:00")


@pytest.fixture
def gateway(gateway: ContractGateway) -> ContractGateway:
    gateway.devices = (LEAK, VALVE)
    return gateway


@pytest.fixture
def messages(hass: HomeAssistant, notify_entity: str) -> list[str]:
    """The messages sent to people."""
    received: list[str] = []

    def receive(call: ServiceCall) -> None:
        received.append(call.data["message"])

    hass.services.async_register("notify", "send_message", receive)
    return received


async def test_people_are_notified_once_and_no_state_is_written(
    hass: HomeAssistant,
    gateway: ContractGateway,
    linked: MockConfigEntry,
    messages: list[str],
) -> None:
    await disconnect(hass, gateway, linked)
    let_time_pass(linked)
    gateway.missed = report(
        MissedChange(device="leak-1", age=300, property="wet", value=True),
        MissedChange(device="leak-1", age=200, property="wet", value=False),
    )
    gateway.devices = (LEAK, with_water(VALVE, open_=False))
    await reconnect(hass, gateway, linked)
    await until(lambda: messages)
    [message] = messages
    assert notices(hass) == [message]
    assert "- Kitchen leak, Wet: wet " in message
    assert "- Main valve, Water: now closed" in message
    shown = hass.states.get("binary_sensor.kitchen_leak_wet")
    assert shown
    assert shown.state == "off"

    await hass.config_entries.async_remove(linked.entry_id)
    assert notices(hass) == []


def let_time_pass(entry: MockConfigEntry) -> None:
    """Make the site a day old and its connection lost for ten minutes."""
    missed = entry.runtime_data.coordinator._missed
    object.__setattr__(entry, "created_at", missed._closed_at - timedelta(days=1))
    missed._closed_at -= timedelta(minutes=10)


async def test_after_a_short_absence_only_unreceived_changes_are_reported(
    hass: HomeAssistant, gateway: ContractGateway, linked: MockConfigEntry, messages: list[str]
) -> None:
    object.__setattr__(linked, "created_at", NOW)
    gateway.devices = (with_water(VALVE, open_=False), LEAK)
    await disconnect(hass, gateway, linked)
    await reconnect(hass, gateway, linked)
    await gateway.wait_until_confirmed()
    assert messages == notices(hass) == []

    gateway.missed = report(MissedChange(device="leak-1", age=1, property="wet", value=True))
    await hass.config_entries.async_reload(linked.entry_id)
    await until(lambda: messages)
    assert "- Kitchen leak, Wet: wet " in messages[0]


async def test_a_session_that_ends_before_its_report_loses_nothing(
    hass: HomeAssistant, gateway: ContractGateway, linked: MockConfigEntry, messages: list[str]
) -> None:
    await gateway.wait_until_confirmed()
    await disconnect(hass, gateway, linked)
    let_time_pass(linked)
    gateway.devices = (with_water(VALVE, open_=False), LEAK)
    gateway.missed = None  # the connection is lost right after the snapshot
    await reconnect(hass, gateway, linked)
    await disconnect(hass, gateway, linked)
    gateway.missed = report(MissedChange(device="leak-1", age=300, property="wet", value=True))
    await reconnect(hass, gateway, linked)
    await until(lambda: messages)
    assert "- Kitchen leak, Wet: wet " in messages[0]
    assert "- Main valve, Water: now closed" in messages[0]
    assert [request.confirmed for request in gateway.received_of(Subscribe)] == [0, 100, 100]


async def test_missed_changes_are_confirmed_only_after_people_were_notified(
    hass: HomeAssistant, gateway: ContractGateway, linked: MockConfigEntry
) -> None:
    notified = asyncio.Event()
    asked = asyncio.Event()

    async def receive(_: ServiceCall) -> None:
        asked.set()
        await notified.wait()

    hass.services.async_register("notify", "send_message", receive)
    await disconnect(hass, gateway, linked)
    let_time_pass(linked)
    gateway.missed = report(MissedChange(device="leak-1", age=300, property="wet", value=True))
    gateway.received.clear()
    await reconnect(hass, gateway, linked)
    await asked.wait()
    await disconnect(hass, gateway, linked)
    assert {receipt.sequence for receipt in gateway.received_of(Heartbeat)} <= {None}
    await reconnect(hass, gateway, linked)
    notified.set()
    await gateway.wait_until_confirmed()


async def test_an_unloaded_site_confirms_processed_changes_before_it_closes(
    hass: HomeAssistant, gateway: ContractGateway, linked: MockConfigEntry
) -> None:
    await gateway.wait_until_confirmed()
    await gateway.send(ValueChanged(sequence=101, device="leak-1", property="wet", value=True, age=0))
    await until(lambda: linked.runtime_data.coordinator.devices.sequence == 101)
    await hass.config_entries.async_unload(linked.entry_id)
    await until(lambda: gateway.received_of(Heartbeat)[-1].sequence == 101)


def with_water(valve: Device, *, open_: bool) -> Device:
    return replace(valve, properties=(replace(valve.properties[0], value=open_), valve.properties[1]))
