"""Every kind of valve is closed, also one that was away at the moment of the leak; what a person opened stays open."""

import pytest
from homeassistant.components.valve import ValveEntityFeature
from homeassistant.core import CoreState, HomeAssistant

from .house import BATH, KITCHEN, OPEN_AND_CLOSE, POSITION_ONLY, VALVE, Close, House, Switch, Valve

WATER = "Water: Kitchen"
CAME_BACK = "Main came back open. Water: Kitchen"
SENSORS = [KITCHEN, BATH]
FEATURES = [
    ValveEntityFeature.CLOSE,
    OPEN_AND_CLOSE,
    POSITION_ONLY,
    POSITION_ONLY | ValveEntityFeature.STOP,
    OPEN_AND_CLOSE | POSITION_ONLY,
    OPEN_AND_CLOSE | POSITION_ONLY | ValveEntityFeature.STOP,
]


@pytest.mark.parametrize("features", FEATURES, ids=repr)
async def test_a_valve_is_closed_by_what_it_supports(house: House, features: ValveEntityFeature) -> None:
    side = Valve("Side", features)
    await house.add(side)
    house.with_process_cosmos()
    await house.automation(sensors=SENSORS, valve="valve.side")
    await house.wet(KITCHEN)
    assert side.state == "closed"
    await house.later(60)
    assert side.commands == 1
    assert house.messages == [WATER]


@pytest.mark.parametrize("temper", [Close.IGNORES, Close.RAISES, Close.HANGS])
async def test_a_valve_that_only_takes_a_position_is_tried_twice_and_people_are_alerted(
    house: House, temper: Close
) -> None:
    side = Valve("Side", POSITION_ONLY)
    side.behaviour = [temper]
    await house.add(side)
    house.with_process_cosmos()
    await house.automation(sensors=SENSORS, valve="valve.side", closes_within=5)
    await house.wet(KITCHEN)
    assert house.messages == [WATER]
    await house.later(6)
    assert side.commands == 2
    await house.later(11)
    assert house.messages == [WATER, "Side did not close, it is open"]
    side.let_go.set()


async def test_turn_on_again_opens_a_valve_that_only_takes_a_position(house: House, hass: HomeAssistant) -> None:
    side = Valve("Side", POSITION_ONLY)
    await house.add(side)
    house.with_process_cosmos()
    await house.automation(sensors=SENSORS, valve="valve.side")
    await house.wet(KITCHEN)
    await house.answer("Turn on again")
    assert side.state == "open"


async def test_a_slow_valve_is_given_its_time(house: House) -> None:
    house.with_process_cosmos()
    house.valve.behaviour = [Close.IS_SLOW]
    await house.automation(sensors=SENSORS, valve=VALVE, closes_within=30)
    await house.wet(KITCHEN)
    await house.later(20)
    house.valve.shows("closed")
    await house.later(90)
    assert house.valve.commands == 1
    assert house.messages == [WATER]


async def test_a_valve_that_was_removed_is_named(house: House) -> None:
    house.with_process_cosmos()
    await house.automation(sensors=SENSORS, valve="valve.gone", closes_within=5)
    await house.wet(KITCHEN)
    await house.later(11)
    assert house.messages == [WATER, "valve.gone did not close, it is unknown"]


@pytest.mark.parametrize("away", ["unavailable", "unknown"])
@pytest.mark.parametrize("features", [OPEN_AND_CLOSE, POSITION_ONLY])
async def test_a_valve_away_at_the_leak_is_closed_when_it_comes_back_open(
    house: House, away: str, features: ValveEntityFeature
) -> None:
    side = Valve("Side", features)
    await house.add(side)
    side.shows(away)
    side.behaviour = [Close.IGNORES, Close.CLOSES] if away == "unknown" else [Close.CLOSES]
    house.with_process_cosmos()
    await house.automation(sensors=SENSORS, valve="valve.side", closes_within=5)
    await house.wet(KITCHEN)
    side.shows(away)
    await house.later(11)
    side.commands = 0
    side.behaviour = [Close.CLOSES]
    side.shows("open")
    await house.settle()
    assert side.state == "closed"
    assert side.commands == 1
    assert house.messages[-1] == "Side came back open. Water: Kitchen"


async def test_a_switch_away_at_the_leak_is_turned_off_when_it_comes_back_on(house: House) -> None:
    worker = Switch()
    await house.add(worker)
    worker.shows("unavailable")
    house.with_process_cosmos()
    await house.automation(sensors=SENSORS, valve="switch.pump")
    await house.wet(KITCHEN)
    worker.shows("on")
    await house.settle()
    assert worker.state == "off"
    assert worker.commands == 1
    assert house.messages == [WATER, "Pump came back open. Water: Kitchen"]


async def test_without_the_integration_a_valve_that_comes_back_open_is_closed(house: House) -> None:
    house.valve.shows("unavailable")
    await house.automation(sensors=SENSORS, valve=VALVE)
    await house.wet(KITCHEN)
    house.valve.shows("open")
    await house.settle()
    assert house.valve.is_closed


async def test_a_valve_that_failed_and_went_away_is_closed_each_time_it_comes_back_open(house: House) -> None:
    house.with_process_cosmos()
    house.valve.behaviour = [Close.RAISES, Close.IGNORES, Close.HANGS, Close.CLOSES]
    await house.automation(sensors=SENSORS, valve=VALVE)
    await house.wet(KITCHEN)
    for commands in (2, 3, 4):
        house.valve.shows("unavailable")
        await house.settle()
        house.valve.shows("open")
        await house.settle()
        assert house.valve.commands == commands
    assert house.valve.is_closed
    assert house.messages == [WATER, CAME_BACK, CAME_BACK, CAME_BACK]


async def test_a_closed_valve_that_loses_power_and_comes_back_open_is_closed(house: House) -> None:
    house.with_process_cosmos()
    await house.automation(sensors=SENSORS, valve=VALVE)
    await house.wet(KITCHEN)
    for state in ("unavailable", "open"):
        house.valve.shows(state)
        await house.settle()
    assert house.valve.is_closed
    assert house.messages == [WATER, CAME_BACK]


async def test_a_valve_that_comes_back_closed_is_left_alone(house: House) -> None:
    house.with_process_cosmos()
    house.valve.shows("unavailable")
    await house.automation(sensors=SENSORS, valve=VALVE)
    await house.wet(KITCHEN)
    house.valve.shows("closed")
    await house.later(60)
    assert house.valve.commands == 0
    assert house.messages == [WATER]


async def test_a_valve_that_comes_back_open_once_it_is_dry_is_left_alone(house: House) -> None:
    house.with_process_cosmos()
    house.valve.shows("unavailable")
    await house.automation(sensors=SENSORS, valve=VALVE)
    await house.wet(KITCHEN)
    await house.dry(KITCHEN)
    house.valve.shows("open")
    await house.settle()
    assert house.valve.commands == 0
    assert house.messages == [WATER]


@pytest.mark.parametrize("by", ["answer", "hand"])
async def test_what_a_person_opened_stays_open(house: House, by: str) -> None:
    house.with_process_cosmos()
    await house.automation(sensors=SENSORS, valve=VALVE)
    await house.wet(KITCHEN)
    if by == "answer":
        await house.answer("Turn on again")
    else:
        house.valve.shows("open")
    await house.later(60)
    assert house.valve.state == "open"
    assert house.valve.commands == 1
    assert house.messages == [WATER]


async def test_the_next_wet_sensor_closes_what_a_person_opened(house: House) -> None:
    house.with_process_cosmos()
    await house.automation(sensors=SENSORS, valve=VALVE)
    await house.wet(KITCHEN)
    house.valve.shows("open")
    await house.wet(BATH)
    assert house.valve.is_closed
    assert house.messages == [WATER, "Water: Bath, Kitchen"]


async def test_a_valve_that_jams_while_it_closes_did_not_come_back(house: House) -> None:
    house.with_process_cosmos()
    house.valve.behaviour = [Close.IS_SLOW]
    await house.automation(sensors=SENSORS, valve=VALVE, closes_within=30)
    await house.wet(KITCHEN)
    house.valve.shows("open")
    await house.settle()
    assert house.valve.commands == 1
    await house.later(31)
    assert house.valve.commands == 2


async def test_two_wet_sensors_close_a_valve_that_comes_back_open_once(house: House) -> None:
    house.with_process_cosmos()
    house.valve.shows("unavailable")
    await house.automation(sensors=SENSORS, valve=VALVE)
    await house.wet(KITCHEN, BATH)
    house.valve.shows("open")
    await house.settle()
    assert house.valve.commands == 1
    assert house.messages[2:] == ["Main came back open. Water: Bath, Kitchen"]


async def test_after_a_restart_a_valve_that_appears_open_is_closed(house: House, hass: HomeAssistant) -> None:
    house.with_process_cosmos()
    house.valve.shows("unavailable")
    hass.set_state(CoreState.not_running)
    await house.automation(sensors=SENSORS, valve=VALVE)
    await house.wet(KITCHEN)
    await hass.async_start()
    await house.settle()
    assert house.messages == [WATER]
    house.valve.shows("open")
    await house.settle()
    assert house.valve.is_closed
    assert house.messages == [WATER, CAME_BACK]


async def test_a_valve_of_an_integration_that_is_set_up_after_the_leak_is_closed(house: House) -> None:
    house.with_process_cosmos()
    side = Valve("Side", POSITION_ONLY)
    await house.automation(sensors=SENSORS, valve="valve.side")
    await house.wet(KITCHEN)
    await house.add(side)
    await house.settle()
    assert side.state == "closed"
