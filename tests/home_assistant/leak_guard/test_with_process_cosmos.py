"""The blueprint and the integration together: from the wet sensor to the phone and back to the valve."""

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest
from homeassistant.core import HomeAssistant
from pytest_homeassistant_custom_component.common import MockConfigEntry

from custom_components.process_cosmos.const import DOMAIN
from tests.home_assistant.escalations.site import Phone, add_phone

from .house import AUTOMATION, KITCHEN, VALVE, Close, House


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
        options={"phones": [phone.device_id], "notify_entities": [], "destinations": []},
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


async def test_a_leak_rings_and_turn_on_again_opens_the_valve(
    house: House, hass: HomeAssistant, entry: MockConfigEntry, phone: Phone
) -> None:
    await house.automation(sensors=[KITCHEN], valve=VALVE)
    await house.wet(KITCHEN)
    await until(hass, lambda: phone.rings)
    assert house.valve.is_closed
    assert [alive.group for alive in entry.runtime_data.escalations.alive] == [AUTOMATION]
    phone.press(phone.button("Turn on again"))
    await until(hass, lambda: not house.valve.is_closed)
    assert entry.runtime_data.escalations.alive == ()


async def test_dry_again_closes_the_escalation_and_the_next_leak_rings_anew(
    house: House, hass: HomeAssistant, entry: MockConfigEntry, phone: Phone
) -> None:
    await house.automation(sensors=[KITCHEN], valve=VALVE, dry_for=0)
    escalations = entry.runtime_data.escalations
    await house.wet(KITCHEN)
    await until(hass, lambda: len(phone.rings) == 1)
    (first,) = escalations.alive
    await house.dry(KITCHEN)
    await until(hass, lambda: not escalations.alive)
    await house.wet(KITCHEN)
    await until(hass, lambda: len(phone.rings) == 2)
    (second,) = escalations.alive
    assert second.id != first.id


async def test_a_valve_that_hangs_rings_beside_the_leak(
    house: House, hass: HomeAssistant, entry: MockConfigEntry, phone: Phone
) -> None:
    house.valve.behaviour = [Close.HANGS]
    await house.automation(sensors=[KITCHEN], valve=VALVE)
    escalations = entry.runtime_data.escalations

    def groups() -> set[str]:
        return {alive.group for alive in escalations.alive}

    await house.wet(KITCHEN)
    for seconds in (16, 31):
        await house.later(seconds)
    await until(hass, lambda: groups() == {AUTOMATION, f"{AUTOMATION} valve"})


async def test_removed_at_run_time_the_valve_still_closes(
    house: House, hass: HomeAssistant, entry: MockConfigEntry
) -> None:
    await house.automation(sensors=[KITCHEN], valve=VALVE)
    assert (await hass.config_entries.async_remove(entry.entry_id))["require_restart"] is False
    await house.wet(KITCHEN)
    assert house.valve.is_closed
