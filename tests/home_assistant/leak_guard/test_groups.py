"""Leak guard with groups: each wet sensor is named in an alert, each valve and switch is closed."""

import pytest
from homeassistant.core import CoreState, HomeAssistant
from homeassistant.setup import async_setup_component
from pytest_homeassistant_custom_component.common import async_capture_events

from .house import BATH, KITCHEN, POSITION_ONLY, VALVE, Close, LeakGuardHome, Switch, Valve

CELLAR = "binary_sensor.cellar"
HELPER = "binary_sensor.floors"
OLD_STYLE = "group.floors"
MEMBERS = [KITCHEN, BATH, CELLAR]


@pytest.fixture(params=[HELPER, OLD_STYLE])
async def floors(request: pytest.FixtureRequest, home: LeakGuardHome, hass: HomeAssistant) -> str:
    """A group of three dry sensors, created as a helper or in YAML."""
    home.sensor(CELLAR, "off")
    if request.param == HELPER:
        return await home.group("binary_sensor", "Floors", MEMBERS)
    assert await async_setup_component(hass, "group", {"group": {"floors": {"name": "Floors", "entities": MEMBERS}}})
    await hass.async_block_till_done()
    return OLD_STYLE


async def test_each_wet_sensor_of_a_group_closes_the_valve_and_is_named(home: LeakGuardHome, floors: str) -> None:
    home.with_process_cosmos()
    await home.automation(sensors=[floors], valve=VALVE)
    for commands, sensor in enumerate((KITCHEN, BATH, CELLAR), 1):
        home.valve.shows("open")
        await home.wet(sensor)
        assert home.valve.is_closed
        assert home.valve.commands == commands
    assert home.messages == ["Water: Kitchen", "Water: Bath, Kitchen", "Water: Bath, Cellar, Kitchen"]
    assert home.raised[-1]["entities"] == [BATH, CELLAR, KITCHEN, VALVE]


async def test_sensors_of_a_group_that_get_wet_at_once_are_all_named(home: LeakGuardHome, floors: str) -> None:
    home.with_process_cosmos()
    await home.automation(sensors=[floors], valve=VALVE)
    await home.wet(KITCHEN)
    await home.wet(BATH, CELLAR)
    assert home.messages == ["Water: Kitchen", "Water: Bath, Kitchen", "Water: Bath, Cellar, Kitchen"]


async def test_a_sensor_that_gets_wet_as_another_of_the_group_dries_alerts(home: LeakGuardHome, floors: str) -> None:
    home.with_process_cosmos()
    await home.automation(sensors=[floors], valve=VALVE)
    await home.wet(KITCHEN)
    home.sensor(BATH, "on")
    home.sensor(KITCHEN, "off")
    await home.settle()
    home.sensor(KITCHEN, "on")
    await home.settle()
    assert home.messages == ["Water: Kitchen", "Water: Bath, Kitchen", "Water: Bath, Kitchen"]


async def test_a_sensor_of_a_wet_group_that_returns_wet_alerts(home: LeakGuardHome, floors: str) -> None:
    home.with_process_cosmos()
    home.sensor(BATH, "unavailable")
    await home.automation(sensors=[floors], valve=VALVE)
    await home.wet(KITCHEN)
    await home.wet(BATH)
    assert home.messages == ["Water: Kitchen", "Water: Bath, Kitchen"]


async def test_a_hanging_valve_does_not_hide_sensors_of_a_group(home: LeakGuardHome, floors: str) -> None:
    home.with_process_cosmos()
    home.valve.behaviour = [Close.HANGS]
    await home.automation(sensors=[floors], valve=VALVE)
    for sensor in MEMBERS:
        await home.wet(sensor)
    assert len(home.raised) == len(MEMBERS)
    assert home.valve.commands == len(MEMBERS)


async def test_a_sensor_chosen_individually_and_in_a_group_alerts_once(home: LeakGuardHome, floors: str) -> None:
    home.with_process_cosmos()
    await home.automation(sensors=[KITCHEN, floors, BATH], valve=VALVE)
    await home.wet(CELLAR)
    await home.wet(BATH)
    assert home.messages == ["Water: Cellar", "Water: Bath, Cellar"]
    assert home.valve.commands == 2


async def test_after_a_person_opened_the_valve_the_next_sensor_of_a_group_closes_it(
    home: LeakGuardHome, floors: str
) -> None:
    home.with_process_cosmos()
    await home.automation(sensors=[floors], valve=VALVE)
    await home.wet(KITCHEN)
    await home.answer("Turn on again")
    assert not home.valve.is_closed
    await home.wet(BATH)
    assert home.valve.is_closed


async def test_a_group_that_was_wet_before_home_assistant_started_names_its_next_sensor(
    home: LeakGuardHome, hass: HomeAssistant, floors: str
) -> None:
    home.with_process_cosmos()
    hass.set_state(CoreState.not_running)
    await home.automation(sensors=[floors], valve=VALVE)
    await home.wet(KITCHEN)
    await hass.async_start()
    await home.settle()
    await home.wet(BATH)
    assert home.messages == ["Water: Kitchen", "Water: Bath, Kitchen"]


async def test_a_group_is_dry_once_each_sensor_reports_dry(home: LeakGuardHome, floors: str) -> None:
    home.with_process_cosmos()
    await home.automation(sensors=[floors], valve=VALVE, dry_for=60)
    await home.wet(KITCHEN)
    home.sensor(BATH, "unavailable")
    await home.dry(KITCHEN)
    await home.later(61)
    assert home.resolved == []
    await home.dry(BATH)
    await home.later(122)
    assert home.resolved == [{"note": "Dry again"}]


@pytest.mark.parametrize("old_style", [False, True])
async def test_each_valve_of_a_group_is_closed_by_what_it_supports(
    home: LeakGuardHome, hass: HomeAssistant, *, old_style: bool
) -> None:
    side, stuck = Valve("Side", POSITION_ONLY), Valve("Stuck")
    stuck.behaviour = [Close.RAISES]
    await home.add(side, stuck)
    members = [VALVE, "valve.side", "valve.stuck"]
    if old_style:
        assert await async_setup_component(
            hass, "group", {"group": {"valves": {"name": "Valves", "entities": members}}}
        )
        group = "group.valves"
    else:
        group = await home.group("valve", "Valves", members)
    home.with_process_cosmos()
    await home.automation(sensors=[KITCHEN], valve=group, closes_within=5)
    await home.wet(KITCHEN)
    assert [valve.state for valve in (home.valve, side, stuck)] == ["closed", "closed", "open"]
    await home.later(6)
    await home.later(11)
    assert stuck.commands == 2
    assert home.messages == ["Water: Kitchen", "Stuck did not close, it is open"]
    await home.answer("Turn on again")
    assert [valve.state for valve in (home.valve, side)] == ["open", "open"]


async def test_valves_and_switches_of_one_group_are_all_closed(home: LeakGuardHome, hass: HomeAssistant) -> None:
    pump, side = Switch(), Valve("Side", POSITION_ONLY)
    await home.add(pump, side)
    members = [VALVE, "valve.side", "switch.pump"]
    assert await async_setup_component(hass, "group", {"group": {"water": {"entities": members}}})
    home.with_process_cosmos()
    await home.automation(sensors=[KITCHEN], valve="group.water")
    await home.wet(KITCHEN)
    assert [home.valve.state, side.state, pump.state] == ["closed", "closed", "off"]


async def test_a_switch_of_a_group_that_comes_back_on_is_turned_off(home: LeakGuardHome) -> None:
    worker, heater = Switch(), Switch("Heater")
    await home.add(worker, heater)
    group = await home.group("switch", "Water", ["switch.pump", "switch.heater"])
    heater.shows("unavailable")
    home.with_process_cosmos()
    await home.automation(sensors=[KITCHEN], valve=group)
    await home.wet(KITCHEN)
    heater.shows("on")
    await home.settle()
    assert [worker.state, heater.state] == ["off", "off"]
    assert home.messages == ["Water: Kitchen", "Heater came back open. Water: Kitchen"]


async def test_a_valve_of_a_group_that_comes_back_open_while_another_still_closes_is_closed(
    home: LeakGuardHome,
) -> None:
    side = Valve("Side")
    await home.add(side)
    group = await home.group("valve", "Valves", [VALVE, "valve.side"])
    home.valve.behaviour = [Close.IS_SLOW]
    side.shows("unavailable")
    home.with_process_cosmos()
    await home.automation(sensors=[KITCHEN], valve=group)
    await home.wet(KITCHEN)
    side.shows("open")
    await home.settle()
    assert side.state == "closed"


async def test_simultaneous_changes_from_one_source_are_all_noticed(home: LeakGuardHome, hass: HomeAssistant) -> None:
    """Template entities of one source change within one event, so a trigger sees only the combined change."""
    names = ("One", "Two", "Three", "Four")
    source = [("hub.zones", "'{0}' in states('hub.zones')"), ("hub.is_there", "is_state('hub.is_there', 'yes')")]
    hass.states.async_set("hub.zones", "dry")
    hass.states.async_set("hub.is_there", "no")
    sensors = [{"name": name, "state": f"{{{{ {source[0][1].format(name)} }}}}"} for name in names]
    switches = [
        {
            "name": name,
            "state": "{{ true }}",
            "availability": f"{{{{ {source[1][1]} }}}}",
            "turn_on": [],
            "turn_off": [{"event": "turned_off", "event_data": {"name": name}}],
        }
        for name in names[:2]
    ]
    assert await async_setup_component(hass, "template", {"template": [{"binary_sensor": sensors, "switch": switches}]})
    await hass.async_block_till_done()
    off = async_capture_events(hass, "turned_off")
    floors = await home.group("binary_sensor", "Floors", [f"binary_sensor.{name.lower()}" for name in names])
    valves = await home.group("switch", "Valves", ["switch.one", "switch.two"])
    home.with_process_cosmos()
    await home.automation(sensors=[floors], valve=valves)
    hass.states.async_set("hub.zones", "One, Two")
    await home.settle()
    assert home.messages == ["Water: One, Two"]
    hass.states.async_set("hub.zones", "One, Two, Three, Four")
    await home.settle()
    assert home.messages[1:] == ["Water: Four, One, Three, Two"]
    hass.states.async_set("hub.is_there", "yes")
    await home.settle()
    assert sorted(event.data["name"] for event in off) == ["One", "Two"]
    assert home.messages[2:] == ["One, Two came back open. Water: Four, One, Three, Two"]


async def test_a_group_of_unavailable_valves_is_closed_as_they_return(home: LeakGuardHome) -> None:
    side = Valve("Side", POSITION_ONLY)
    await home.add(side)
    group = await home.group("valve", "Valves", [VALVE, "valve.side"])
    home.valve.shows("unavailable")
    side.shows("unavailable")
    home.with_process_cosmos()
    await home.automation(sensors=[KITCHEN], valve=group, closes_within=5)
    await home.wet(KITCHEN)
    await home.later(11)
    assert home.messages == ["Water: Kitchen", "Valves did not close, it is unavailable"]
    for valve in (home.valve, side):
        valve.shows("open")
        await home.settle()
        assert valve.state == "closed"


async def test_an_unavailable_group_that_returns_wet_names_its_sensor(home: LeakGuardHome) -> None:
    for sensor in (KITCHEN, BATH):
        home.sensor(sensor, "unavailable")
    floors = await home.group("binary_sensor", "Floors", [KITCHEN, BATH])
    home.with_process_cosmos()
    await home.automation(sensors=[floors], valve=VALVE)
    await home.wet(KITCHEN)
    await home.wet(BATH)
    assert home.messages == ["Water: Kitchen", "Water: Bath, Kitchen"]
    assert home.valve.commands == 2
