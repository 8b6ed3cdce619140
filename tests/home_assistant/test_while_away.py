"""What was missed while one side was away is told once to people, and fires nothing."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from homeassistant.components import persistent_notification
from homeassistant.core import HomeAssistant, ServiceCall
from pytest_homeassistant_custom_component.common import MockConfigEntry

from custom_components.process_cosmos.contract.devices import (
    Device,
    Missed,
    Property,
    PropertyKind,
    Snapshot,
    WhileAway,
)
from custom_components.process_cosmos.things import Things
from custom_components.process_cosmos.while_away import summary

from .contract_gateway import ContractGateway, until
from .devices import LEAK, ROOM, VALVE
from .test_link import find, lose

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)
BEGAN = NOW - timedelta(minutes=20)


def things(*devices: Device) -> Things:
    held = Things()
    held.take_all(Snapshot(sequence=1, devices=devices))
    return held


def told(*changes: Missed, more: int = 0) -> WhileAway:
    return WhileAway(since=1200, changes=changes, more=more)


def read(message: WhileAway, *silent: tuple[str, str], now: datetime = NOW, began: datetime = BEGAN) -> list[str]:
    text = summary(things(LEAK, VALVE, ROOM), message, silent, began=began, now=now)
    return text.splitlines() if text else []


@pytest.fixture(autouse=True)
async def _utc(hass: HomeAssistant) -> None:
    await hass.config.async_set_time_zone("UTC")


def test_each_thing_has_a_line_with_its_changes_in_order_and_in_its_own_words() -> None:
    dry = Missed(device="leak-1", age=300, property="wet", value=False)
    wet = Missed(device="leak-1", age=600, property="wet", value=True)
    shut = Missed(device="valve-1", age=590, property="open", value=False)
    pressed = Missed(device="leak-1", age=60, event="button")
    assert read(told(dry, wet, shut, pressed)) == [
        "While away (11:40 to 12:00):",
        "- Kitchen leak, Wet: wet 11:50, dry 11:55",
        "- Main valve, Water: closed 11:50",
        "- Kitchen leak, Button: 11:59",
    ]


def test_what_is_known_by_its_end_alone_has_no_time() -> None:
    siren = Missed(device="valve-1", age=60, property="siren", value=True)
    assert read(told(siren), ("valve-1", "siren"), ("valve-1", "open")) == [
        "While away (11:40 to 12:00):",
        "- Main valve, Siren: on 11:59",
        "- Main valve, Water: now open",
    ]


def test_what_was_before_or_is_of_no_device_here_is_not_told() -> None:
    assert read(told()) == []
    assert read(told(Missed(device="leak-1", age=1300, property="wet", value=True))) == []
    assert read(told(Missed(device="gone", age=60, property="wet", value=True))) == []


def test_much_is_shortened_and_counted() -> None:
    drips = [Missed(device="leak-1", age=60 * age, property="wet", value=age % 2 == 0) for age in range(9, 0, -1)]
    assert read(told(*drips, more=4)) == [
        "While away (11:40 to 12:00):",
        "- Kitchen leak, Wet: dry 11:51, wet 11:52, 4 more, dry 11:57, wet 11:58, dry 11:59",
        "- and 4 more",
    ]
    names = [f"p{number}" for number in range(25)]
    many = Device(
        id="many",
        title="Many",
        properties=tuple(Property(name=name, title=name, kind=PropertyKind.TEXT) for name in names),
    )
    changes = [Missed(device="many", age=60, property=name, value="x" * 100) for name in names]
    text = summary(things(many), told(*changes), (), began=BEGAN, now=NOW)
    assert text
    assert len(text.splitlines()) == 22
    assert text.endswith("- and 5 more")
    assert "x" * 51 not in text


def test_another_day_is_named() -> None:
    wet = Missed(device="leak-1", age=90_000, property="wet", value=True)
    first, line = read(told(wet), began=NOW - timedelta(days=2))
    assert first == "While away (2026-11-20 12:00 to 12:00):"
    assert line.endswith("wet 2026-11-21 11:00")


@pytest.fixture
def gateway(gateway: ContractGateway) -> ContractGateway:
    gateway.devices = (LEAK, VALVE)
    return gateway


@pytest.fixture
def messages(hass: HomeAssistant, notify_entity: str) -> list[str]:
    """What people were told."""
    heard: list[str] = []

    def hear(call: ServiceCall) -> None:
        heard.append(call.data["message"])

    hass.services.async_register("notify", "send_message", hear)
    return heard


def notices(hass: HomeAssistant) -> list[str]:
    shown = persistent_notification._async_get_or_create_notifications(hass)  # type: ignore[attr-defined]  # the only list
    return [notice["message"] for notice in shown.values()]


async def test_people_hear_of_it_once_home_assistant_shows_it_and_no_state_was_written(
    hass: HomeAssistant,
    gateway: ContractGateway,
    linked: MockConfigEntry,
    messages: list[str],
) -> None:
    await lose(hass, gateway, linked)
    closed_at = linked.runtime_data.coordinator._closed_at
    linked.runtime_data.coordinator._closed_at = closed_at - timedelta(minutes=10)
    object.__setattr__(linked, "created_at", closed_at - timedelta(days=1))
    gateway.missed = told(
        Missed(device="leak-1", age=300, property="wet", value=True),
        Missed(device="leak-1", age=200, property="wet", value=False),
    )
    gateway.devices = (
        LEAK,
        replace(VALVE, properties=(replace(VALVE.properties[0], value=False), VALVE.properties[1])),
    )
    await find(hass, gateway, linked)
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


async def test_a_short_absence_and_what_was_before_the_site_was_added_are_not_told(
    hass: HomeAssistant,
    gateway: ContractGateway,
    linked: MockConfigEntry,
    messages: list[str],
) -> None:
    wet = Missed(device="leak-1", age=1, property="wet", value=True)
    gateway.missed = WhileAway(since=10_000, changes=(wet,))
    await lose(hass, gateway, linked)
    await find(hass, gateway, linked)
    await hass.config_entries.async_reload(linked.entry_id)
    await until(lambda: linked.runtime_data.coordinator.status)
    await hass.async_block_till_done()
    assert messages == []
    assert notices(hass) == []
