"""The blueprint with the integration: from the wet sensor to the phone and back to the valve."""

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest
from homeassistant.core import HomeAssistant
from homeassistant.setup import async_setup_component
from pytest_homeassistant_custom_component.common import MockConfigEntry

from custom_components.process_cosmos.const import DOMAIN
from tests.home_assistant.alerts.site import Phone, add_phone

from .house import AUTOMATION, BATH, KITCHEN, POSITION_ONLY, VALVE, Close, LeakGuardHome, Switch, Valve


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
    """Wait for a condition that follows a disk write."""
    async with asyncio.timeout(30):
        while not condition():
            await hass.async_block_till_done(wait_background_tasks=True)
            await asyncio.sleep(0.005)


async def soon(home: LeakGuardHome, condition: Callable[[], object]) -> None:
    """Wait in the same way while a run of the automation waits for its valve."""
    async with asyncio.timeout(30):
        while not condition():
            await home.settle()
            await asyncio.sleep(0.005)


async def test_a_leak_notifies_and_turn_on_again_opens_the_valve(
    home: LeakGuardHome, hass: HomeAssistant, entry: MockConfigEntry, phone: Phone
) -> None:
    await home.automation(sensors=[KITCHEN], valve=VALVE)
    await home.wet(KITCHEN)
    await until(hass, lambda: phone.notifications)
    assert home.valve.is_closed
    assert [alive.group for alive in entry.runtime_data.alerts.alive] == [AUTOMATION]
    phone.press(phone.button("Turn on again"))
    await until(hass, lambda: not home.valve.is_closed)
    assert entry.runtime_data.alerts.alive == ()


async def test_dry_again_closes_the_alert_and_the_next_leak_opens_a_new_one(
    home: LeakGuardHome, hass: HomeAssistant, entry: MockConfigEntry, phone: Phone
) -> None:
    await home.automation(sensors=[KITCHEN], valve=VALVE, dry_for=0)
    alerts = entry.runtime_data.alerts
    await home.wet(KITCHEN)
    await until(hass, lambda: len(phone.notifications) == 1)
    (first,) = alerts.alive
    await home.dry(KITCHEN)
    await until(hass, lambda: not alerts.alive)
    await home.wet(KITCHEN)
    await until(hass, lambda: len(phone.notifications) == 2)
    (second,) = alerts.alive
    assert second.id != first.id


async def test_a_hanging_valve_has_an_alert_beside_the_leak(
    home: LeakGuardHome, hass: HomeAssistant, entry: MockConfigEntry, phone: Phone
) -> None:
    home.valve.behaviour = [Close.HANGS]
    await home.automation(sensors=[KITCHEN], valve=VALVE)
    alerts = entry.runtime_data.alerts

    await home.wet(KITCHEN)
    for seconds in (16, 31):
        await home.later(seconds)
    groups = {AUTOMATION, f"{AUTOMATION} valve"}
    await soon(home, lambda: {alive.group for alive in alerts.alive} == groups)


async def test_groups_alert_by_name_and_turn_on_again_opens_all_valves(
    home: LeakGuardHome, hass: HomeAssistant, entry: MockConfigEntry, phone: Phone
) -> None:
    side, worker = Valve("Side", POSITION_ONLY), Switch()
    await home.add(side, worker)
    members = [VALVE, "valve.side", "switch.pump"]
    assert await async_setup_component(hass, "group", {"group": {"water": {"name": "Water", "entities": members}}})
    floors = await home.group("binary_sensor", "Floors", [KITCHEN, BATH])
    worker.shows("unavailable")
    await home.automation(sensors=[floors], valve="group.water")

    def newest() -> str:
        return next((alive.content.message for alive in entry.runtime_data.alerts.alive), "")

    await home.wet(KITCHEN)
    await soon(home, lambda: phone.notifications)
    assert newest() == "Water: Kitchen"
    await home.wet(BATH)
    await soon(home, lambda: newest() == "Water: Bath, Kitchen")
    worker.shows("on")
    await soon(home, lambda: newest() == "Pump came back open. Water: Bath, Kitchen")
    assert [home.valve.state, side.state, worker.state] == ["closed", "closed", "off"]
    (alive,) = entry.runtime_data.alerts.alive
    answer = {"alert": alive.id, "answer": "Turn on again"}
    await hass.services.async_call(DOMAIN, "answer", answer, blocking=True)
    await soon(home, lambda: [home.valve.state, side.state, worker.state] == ["open", "open", "on"])


async def test_removed_at_run_time_the_valve_still_closes(
    home: LeakGuardHome, hass: HomeAssistant, entry: MockConfigEntry
) -> None:
    await home.automation(sensors=[KITCHEN], valve=VALVE)
    assert (await hass.config_entries.async_remove(entry.entry_id))["require_restart"] is False
    await home.wet(KITCHEN)
    assert home.valve.is_closed
