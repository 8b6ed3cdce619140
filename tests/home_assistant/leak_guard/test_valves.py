"""All kinds of valves are closed, also those unavailable during the leak; a valve that a person opened stays open."""

import pytest
from homeassistant.components.valve import ValveEntityFeature
from homeassistant.core import CoreState, HomeAssistant

from .house import BATH, KITCHEN, OPEN_AND_CLOSE, POSITION_ONLY, VALVE, Close, LeakGuardHome, Switch, Valve

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
async def test_a_valve_is_closed_by_what_it_supports(home: LeakGuardHome, features: ValveEntityFeature) -> None:
    side = Valve("Side", features)
    await home.add(side)
    home.with_process_cosmos()
    await home.automation(sensors=SENSORS, valve="valve.side")
    await home.wet(KITCHEN)
    assert side.state == "closed"
    await home.later(60)
    assert side.commands == 1
    assert home.messages == [WATER]


@pytest.mark.parametrize("temper", [Close.IGNORES, Close.RAISES, Close.HANGS])
async def test_a_position_only_valve_is_tried_twice_and_people_are_alerted(home: LeakGuardHome, temper: Close) -> None:
    side = Valve("Side", POSITION_ONLY)
    side.behaviour = [temper]
    await home.add(side)
    home.with_process_cosmos()
    await home.automation(sensors=SENSORS, valve="valve.side", closes_within=5)
    await home.wet(KITCHEN)
    assert home.messages == [WATER]
    await home.later(6)
    assert side.commands == 2
    await home.later(11)
    assert home.messages == [WATER, "Side did not close, it is open"]
    side.let_go.set()


async def test_turn_on_again_opens_a_position_only_valve(home: LeakGuardHome, hass: HomeAssistant) -> None:
    side = Valve("Side", POSITION_ONLY)
    await home.add(side)
    home.with_process_cosmos()
    await home.automation(sensors=SENSORS, valve="valve.side")
    await home.wet(KITCHEN)
    await home.answer("Turn on again")
    assert side.state == "open"


async def test_a_slow_valve_is_waited_for(home: LeakGuardHome) -> None:
    home.with_process_cosmos()
    home.valve.behaviour = [Close.IS_SLOW]
    await home.automation(sensors=SENSORS, valve=VALVE, closes_within=30)
    await home.wet(KITCHEN)
    await home.later(20)
    home.valve.shows("closed")
    await home.later(90)
    assert home.valve.commands == 1
    assert home.messages == [WATER]


async def test_a_valve_that_was_removed_is_named(home: LeakGuardHome) -> None:
    home.with_process_cosmos()
    await home.automation(sensors=SENSORS, valve="valve.gone", closes_within=5)
    await home.wet(KITCHEN)
    await home.later(11)
    assert home.messages == [WATER, "valve.gone did not close, it is unknown"]


@pytest.mark.parametrize("away", ["unavailable", "unknown"])
@pytest.mark.parametrize("features", [OPEN_AND_CLOSE, POSITION_ONLY])
async def test_an_unavailable_valve_is_closed_when_it_returns_open(
    home: LeakGuardHome, away: str, features: ValveEntityFeature
) -> None:
    side = Valve("Side", features)
    await home.add(side)
    side.shows(away)
    side.behaviour = [Close.IGNORES, Close.CLOSES] if away == "unknown" else [Close.CLOSES]
    home.with_process_cosmos()
    await home.automation(sensors=SENSORS, valve="valve.side", closes_within=5)
    await home.wet(KITCHEN)
    side.shows(away)
    await home.later(11)
    side.commands = 0
    side.behaviour = [Close.CLOSES]
    side.shows("open")
    await home.settle()
    assert side.state == "closed"
    assert side.commands == 1
    assert home.messages[-1] == "Side came back open. Water: Kitchen"


async def test_an_unavailable_switch_is_turned_off_when_it_returns_on(home: LeakGuardHome) -> None:
    worker = Switch()
    await home.add(worker)
    worker.shows("unavailable")
    home.with_process_cosmos()
    await home.automation(sensors=SENSORS, valve="switch.pump")
    await home.wet(KITCHEN)
    worker.shows("on")
    await home.settle()
    assert worker.state == "off"
    assert worker.commands == 1
    assert home.messages == [WATER, "Pump came back open. Water: Kitchen"]


async def test_without_the_integration_a_valve_that_comes_back_open_is_closed(home: LeakGuardHome) -> None:
    home.valve.shows("unavailable")
    await home.automation(sensors=SENSORS, valve=VALVE)
    await home.wet(KITCHEN)
    home.valve.shows("open")
    await home.settle()
    assert home.valve.is_closed


async def test_a_failed_valve_is_closed_each_time_it_returns_open(home: LeakGuardHome) -> None:
    home.with_process_cosmos()
    home.valve.behaviour = [Close.RAISES, Close.IGNORES, Close.HANGS, Close.CLOSES]
    await home.automation(sensors=SENSORS, valve=VALVE)
    await home.wet(KITCHEN)
    for commands in (2, 3, 4):
        home.valve.shows("unavailable")
        await home.settle()
        home.valve.shows("open")
        await home.settle()
        assert home.valve.commands == commands
    assert home.valve.is_closed
    assert home.messages == [WATER, CAME_BACK, CAME_BACK, CAME_BACK]


async def test_a_closed_valve_that_loses_power_and_comes_back_open_is_closed(home: LeakGuardHome) -> None:
    home.with_process_cosmos()
    await home.automation(sensors=SENSORS, valve=VALVE)
    await home.wet(KITCHEN)
    for state in ("unavailable", "open"):
        home.valve.shows(state)
        await home.settle()
    assert home.valve.is_closed
    assert home.messages == [WATER, CAME_BACK]


async def test_a_valve_that_returns_closed_is_not_touched(home: LeakGuardHome) -> None:
    home.with_process_cosmos()
    home.valve.shows("unavailable")
    await home.automation(sensors=SENSORS, valve=VALVE)
    await home.wet(KITCHEN)
    home.valve.shows("closed")
    await home.later(60)
    assert home.valve.commands == 0
    assert home.messages == [WATER]


async def test_a_valve_that_returns_open_when_it_is_dry_is_not_touched(home: LeakGuardHome) -> None:
    home.with_process_cosmos()
    home.valve.shows("unavailable")
    await home.automation(sensors=SENSORS, valve=VALVE)
    await home.wet(KITCHEN)
    await home.dry(KITCHEN)
    home.valve.shows("open")
    await home.settle()
    assert home.valve.commands == 0
    assert home.messages == [WATER]


@pytest.mark.parametrize("by", ["answer", "hand"])
async def test_a_valve_that_a_person_opened_stays_open(home: LeakGuardHome, by: str) -> None:
    home.with_process_cosmos()
    await home.automation(sensors=SENSORS, valve=VALVE)
    await home.wet(KITCHEN)
    if by == "answer":
        await home.answer("Turn on again")
    else:
        home.valve.shows("open")
    await home.later(60)
    assert home.valve.state == "open"
    assert home.valve.commands == 1
    assert home.messages == [WATER]


async def test_the_next_wet_sensor_closes_a_valve_that_a_person_opened(home: LeakGuardHome) -> None:
    home.with_process_cosmos()
    await home.automation(sensors=SENSORS, valve=VALVE)
    await home.wet(KITCHEN)
    home.valve.shows("open")
    await home.wet(BATH)
    assert home.valve.is_closed
    assert home.messages == [WATER, "Water: Bath, Kitchen"]


async def test_a_valve_that_jams_while_closing_does_not_count_as_returned(home: LeakGuardHome) -> None:
    home.with_process_cosmos()
    home.valve.behaviour = [Close.IS_SLOW]
    await home.automation(sensors=SENSORS, valve=VALVE, closes_within=30)
    await home.wet(KITCHEN)
    home.valve.shows("open")
    await home.settle()
    assert home.valve.commands == 1
    await home.later(31)
    assert home.valve.commands == 2


async def test_two_wet_sensors_close_a_valve_that_comes_back_open_once(home: LeakGuardHome) -> None:
    home.with_process_cosmos()
    home.valve.shows("unavailable")
    await home.automation(sensors=SENSORS, valve=VALVE)
    await home.wet(KITCHEN, BATH)
    home.valve.shows("open")
    await home.settle()
    assert home.valve.commands == 1
    assert home.messages[2:] == ["Main came back open. Water: Bath, Kitchen"]


async def test_after_a_restart_a_valve_that_appears_open_is_closed(home: LeakGuardHome, hass: HomeAssistant) -> None:
    home.with_process_cosmos()
    home.valve.shows("unavailable")
    hass.set_state(CoreState.not_running)
    await home.automation(sensors=SENSORS, valve=VALVE)
    await home.wet(KITCHEN)
    await hass.async_start()
    await home.settle()
    assert home.messages == [WATER]
    home.valve.shows("open")
    await home.settle()
    assert home.valve.is_closed
    assert home.messages == [WATER, CAME_BACK]


async def test_a_valve_of_an_integration_that_is_set_up_after_the_leak_is_closed(home: LeakGuardHome) -> None:
    home.with_process_cosmos()
    side = Valve("Side", POSITION_ONLY)
    await home.automation(sensors=SENSORS, valve="valve.side")
    await home.wet(KITCHEN)
    await home.add(side)
    await home.settle()
    assert side.state == "closed"
