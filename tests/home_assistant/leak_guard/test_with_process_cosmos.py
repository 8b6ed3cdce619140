"""The blueprint and the integration together: from the wet sensor to the phone and back to the valve."""

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest
from homeassistant.core import HomeAssistant
from homeassistant.setup import async_setup_component
from pytest_homeassistant_custom_component.common import MockConfigEntry

from custom_components.process_cosmos.const import DOMAIN
from tests.home_assistant.alerts.site import Phone, add_phone

from .house import AUTOMATION, BATH, KITCHEN, POSITION_ONLY, VALVE, Close, House, Switch, Valve


@pytest.fixture
def phone(hass: HomeAssistant) -> Phone:
    return add_phone(hass, "Anna")


@pytest.fixture
async def entry(hass: HomeAssistant, phone: Phone) -> MockConfigEntry:
    """The integration without the app, with one phone."""
    Path(hass.config.path(".storage")).mkdir()
    entry = MockConfigEntry(
        domain=DOMAIN,
        title="Home",
        data={"site": None, "url": None, "token": None, "sha256": None},
        options={"phones": [phone.app_id], "notify_entities": [], "destinations": []},
    )
    entry.add_to_hass(hass)
    assert await hass.config_entries.async_setup(entry.entry_id)
    return entry


async def until(hass: HomeAssistant, condition: Callable[[], object]) -> None:
    """Wait for what the integration does once something is on disk."""
    async with asyncio.timeout(30):
        while not condition():
            await hass.async_block_till_done(wait_background_tasks=True)
            await asyncio.sleep(0.005)


async def soon(house: House, condition: Callable[[], object]) -> None:
    """Wait likewise while a run of the automation waits for its valve."""
    async with asyncio.timeout(30):
        while not condition():
            await house.settle()
            await asyncio.sleep(0.005)


async def test_a_leak_rings_and_turn_on_again_opens_the_valve(
    house: House, hass: HomeAssistant, entry: MockConfigEntry, phone: Phone
) -> None:
    await house.automation(sensors=[KITCHEN], valve=VALVE)
    await house.wet(KITCHEN)
    await until(hass, lambda: phone.notifications)
    assert house.valve.is_closed
    assert [alive.group for alive in entry.runtime_data.alerts.alive] == [AUTOMATION]
    phone.press(phone.button("Turn on again"))
    await until(hass, lambda: not house.valve.is_closed)
    assert entry.runtime_data.alerts.alive == ()


async def test_dry_again_closes_the_alert_and_the_next_leak_rings_anew(
    house: House, hass: HomeAssistant, entry: MockConfigEntry, phone: Phone
) -> None:
    await house.automation(sensors=[KITCHEN], valve=VALVE, dry_for=0)
    alerts = entry.runtime_data.alerts
    await house.wet(KITCHEN)
    await until(hass, lambda: len(phone.notifications) == 1)
    (first,) = alerts.alive
    await house.dry(KITCHEN)
    await until(hass, lambda: not alerts.alive)
    await house.wet(KITCHEN)
    await until(hass, lambda: len(phone.notifications) == 2)
    (second,) = alerts.alive
    assert second.id != first.id


async def test_a_valve_that_hangs_rings_beside_the_leak(
    house: House, hass: HomeAssistant, entry: MockConfigEntry, phone: Phone
) -> None:
    house.valve.behaviour = [Close.HANGS]
    await house.automation(sensors=[KITCHEN], valve=VALVE)
    alerts = entry.runtime_data.alerts

    await house.wet(KITCHEN)
    for seconds in (16, 31):
        await house.later(seconds)
    groups = {AUTOMATION, f"{AUTOMATION} valve"}
    await soon(house, lambda: {alive.group for alive in alerts.alive} == groups)


async def test_groups_of_sensors_and_of_valves_alert_by_name_and_turn_on_again_opens_them_all(
    house: House, hass: HomeAssistant, entry: MockConfigEntry, phone: Phone
) -> None:
    side, worker = Valve("Side", POSITION_ONLY), Switch()
    await house.add(side, worker)
    members = [VALVE, "valve.side", "switch.pump"]
    assert await async_setup_component(hass, "group", {"group": {"water": {"name": "Water", "entities": members}}})
    floors = await house.group("binary_sensor", "Floors", [KITCHEN, BATH])
    worker.shows("unavailable")
    await house.automation(sensors=[floors], valve="group.water")

    def newest() -> str:
        return next((alive.content.message for alive in entry.runtime_data.alerts.alive), "")

    await house.wet(KITCHEN)
    await soon(house, lambda: phone.notifications)
    assert newest() == "Water: Kitchen"
    await house.wet(BATH)
    await soon(house, lambda: newest() == "Water: Bath, Kitchen")
    worker.shows("on")
    await soon(house, lambda: newest() == "Pump came back open. Water: Bath, Kitchen")
    assert [house.valve.state, side.state, worker.state] == ["closed", "closed", "off"]
    (alive,) = entry.runtime_data.alerts.alive
    answer = {"alert": alive.id, "answer": "Turn on again"}
    await hass.services.async_call(DOMAIN, "answer", answer, blocking=True)
    await soon(house, lambda: [house.valve.state, side.state, worker.state] == ["open", "open", "on"])


async def test_removed_at_run_time_the_valve_still_closes(
    house: House, hass: HomeAssistant, entry: MockConfigEntry
) -> None:
    await house.automation(sensors=[KITCHEN], valve=VALVE)
    assert (await hass.config_entries.async_remove(entry.entry_id))["require_restart"] is False
    await house.wet(KITCHEN)
    assert house.valve.is_closed
