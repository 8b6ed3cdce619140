"""A group is its members: each wet one alerts by name, each valve and switch in it is closed."""

import pytest
from homeassistant.core import CoreState, HomeAssistant
from homeassistant.setup import async_setup_component
from pytest_homeassistant_custom_component.common import async_capture_events

from .house import BATH, KITCHEN, POSITION_ONLY, VALVE, Close, House, Switch, Valve

CELLAR = "binary_sensor.cellar"
HELPER = "binary_sensor.floors"
OLD_STYLE = "group.floors"
MEMBERS = [KITCHEN, BATH, CELLAR]


@pytest.fixture(params=[HELPER, OLD_STYLE])
async def floors(request: pytest.FixtureRequest, house: House, hass: HomeAssistant) -> str:
    """A group of three dry sensors, made as a helper or in YAML."""
    house.sensor(CELLAR, "off")
    if request.param == HELPER:
        return await house.group("binary_sensor", "Floors", MEMBERS)
    assert await async_setup_component(hass, "group", {"group": {"floors": {"name": "Floors", "entities": MEMBERS}}})
    await hass.async_block_till_done()
    return OLD_STYLE


async def test_each_wet_sensor_of_a_group_closes_the_valve_and_is_named(house: House, floors: str) -> None:
    house.with_process_cosmos()
    await house.automation(sensors=[floors], valve=VALVE)
    for commands, sensor in enumerate((KITCHEN, BATH, CELLAR), 1):
        house.valve.shows("open")
        await house.wet(sensor)
        assert house.valve.is_closed
        assert house.valve.commands == commands
    assert house.messages == ["Water: Kitchen", "Water: Bath, Kitchen", "Water: Bath, Cellar, Kitchen"]
    assert house.raised[-1]["entities"] == [BATH, CELLAR, KITCHEN, VALVE]


async def test_sensors_of_a_group_that_get_wet_at_once_are_all_named(house: House, floors: str) -> None:
    house.with_process_cosmos()
    await house.automation(sensors=[floors], valve=VALVE)
    await house.wet(KITCHEN)
    await house.wet(BATH, CELLAR)
    assert house.messages == ["Water: Kitchen", "Water: Bath, Kitchen", "Water: Bath, Cellar, Kitchen"]


async def test_a_sensor_of_a_group_that_gets_wet_as_another_dries_alerts(house: House, floors: str) -> None:
    house.with_process_cosmos()
    await house.automation(sensors=[floors], valve=VALVE)
    await house.wet(KITCHEN)
    house.sensor(BATH, "on")
    house.sensor(KITCHEN, "off")
    await house.settle()
    house.sensor(KITCHEN, "on")
    await house.settle()
    assert house.messages == ["Water: Kitchen", "Water: Bath, Kitchen", "Water: Bath, Kitchen"]


async def test_a_sensor_of_a_wet_group_that_returns_wet_alerts(house: House, floors: str) -> None:
    house.with_process_cosmos()
    house.sensor(BATH, "unavailable")
    await house.automation(sensors=[floors], valve=VALVE)
    await house.wet(KITCHEN)
    await house.wet(BATH)
    assert house.messages == ["Water: Kitchen", "Water: Bath, Kitchen"]


async def test_a_valve_that_hangs_hides_no_sensor_of_a_group(house: House, floors: str) -> None:
    house.with_process_cosmos()
    house.valve.behaviour = [Close.HANGS]
    await house.automation(sensors=[floors], valve=VALVE)
    for sensor in MEMBERS:
        await house.wet(sensor)
    assert len(house.raised) == len(MEMBERS)
    assert house.valve.commands == len(MEMBERS)


async def test_a_sensor_chosen_by_itself_and_in_a_group_alerts_once(house: House, floors: str) -> None:
    house.with_process_cosmos()
    await house.automation(sensors=[KITCHEN, floors, BATH], valve=VALVE)
    await house.wet(CELLAR)
    await house.wet(BATH)
    assert house.messages == ["Water: Cellar", "Water: Bath, Cellar"]
    assert house.valve.commands == 2


async def test_after_a_person_opened_the_valve_the_next_sensor_of_a_group_closes_it(house: House, floors: str) -> None:
    house.with_process_cosmos()
    await house.automation(sensors=[floors], valve=VALVE)
    await house.wet(KITCHEN)
    await house.answer("Turn on again")
    assert not house.valve.is_closed
    await house.wet(BATH)
    assert house.valve.is_closed


async def test_a_group_that_was_wet_before_home_assistant_started_names_its_next_sensor(
    house: House, hass: HomeAssistant, floors: str
) -> None:
    house.with_process_cosmos()
    hass.set_state(CoreState.not_running)
    await house.automation(sensors=[floors], valve=VALVE)
    await house.wet(KITCHEN)
    await hass.async_start()
    await house.settle()
    await house.wet(BATH)
    assert house.messages == ["Water: Kitchen", "Water: Bath, Kitchen"]


async def test_a_group_is_dry_once_each_of_its_sensors_says_so(house: House, floors: str) -> None:
    house.with_process_cosmos()
    await house.automation(sensors=[floors], valve=VALVE, dry_for=60)
    await house.wet(KITCHEN)
    house.sensor(BATH, "unavailable")
    await house.dry(KITCHEN)
    await house.later(61)
    assert house.resolved == []
    await house.dry(BATH)
    await house.later(122)
    assert house.resolved == [{"note": "Dry again"}]


@pytest.mark.parametrize("old_style", [False, True])
async def test_each_valve_of_a_group_is_closed_by_what_it_supports(
    house: House, hass: HomeAssistant, *, old_style: bool
) -> None:
    side, stuck = Valve("Side", POSITION_ONLY), Valve("Stuck")
    stuck.behaviour = [Close.RAISES]
    await house.add(side, stuck)
    members = [VALVE, "valve.side", "valve.stuck"]
    if old_style:
        assert await async_setup_component(
            hass, "group", {"group": {"valves": {"name": "Valves", "entities": members}}}
        )
        group = "group.valves"
    else:
        group = await house.group("valve", "Valves", members)
    house.with_process_cosmos()
    await house.automation(sensors=[KITCHEN], valve=group, closes_within=5)
    await house.wet(KITCHEN)
    assert [valve.state for valve in (house.valve, side, stuck)] == ["closed", "closed", "open"]
    await house.later(6)
    await house.later(11)
    assert stuck.commands == 2
    assert house.messages == ["Water: Kitchen", "Stuck did not close, it is open"]
    await house.answer("Turn on again")
    assert [valve.state for valve in (house.valve, side)] == ["open", "open"]


async def test_valves_and_switches_of_one_group_are_all_closed(house: House, hass: HomeAssistant) -> None:
    worker, side = Switch(), Valve("Side", POSITION_ONLY)
    await house.add(worker, side)
    members = [VALVE, "valve.side", "switch.pump"]
    assert await async_setup_component(hass, "group", {"group": {"water": {"entities": members}}})
    house.with_process_cosmos()
    await house.automation(sensors=[KITCHEN], valve="group.water")
    await house.wet(KITCHEN)
    assert [house.valve.state, side.state, worker.state] == ["closed", "closed", "off"]


async def test_a_switch_of_a_group_that_comes_back_on_is_turned_off(house: House) -> None:
    worker, heater = Switch(), Switch("Heater")
    await house.add(worker, heater)
    group = await house.group("switch", "Water", ["switch.pump", "switch.heater"])
    heater.shows("unavailable")
    house.with_process_cosmos()
    await house.automation(sensors=[KITCHEN], valve=group)
    await house.wet(KITCHEN)
    heater.shows("on")
    await house.settle()
    assert [worker.state, heater.state] == ["off", "off"]
    assert house.messages == ["Water: Kitchen", "Heater came back open. Water: Kitchen"]


async def test_a_valve_of_a_group_that_comes_back_open_while_another_still_closes_is_closed(house: House) -> None:
    side = Valve("Side")
    await house.add(side)
    group = await house.group("valve", "Valves", [VALVE, "valve.side"])
    house.valve.behaviour = [Close.IS_SLOW]
    side.shows("unavailable")
    house.with_process_cosmos()
    await house.automation(sensors=[KITCHEN], valve=group)
    await house.wet(KITCHEN)
    side.shows("open")
    await house.settle()
    assert side.state == "closed"


async def test_what_one_source_makes_wet_and_brings_back_at_once_is_all_seen(house: House, hass: HomeAssistant) -> None:
    """Template entities of one source change within one event: a trigger sees them only together."""
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
    floors = await house.group("binary_sensor", "Floors", [f"binary_sensor.{name.lower()}" for name in names])
    valves = await house.group("switch", "Valves", ["switch.one", "switch.two"])
    house.with_process_cosmos()
    await house.automation(sensors=[floors], valve=valves)
    hass.states.async_set("hub.zones", "One, Two")
    await house.settle()
    assert house.messages == ["Water: One, Two"]
    hass.states.async_set("hub.zones", "One, Two, Three, Four")
    await house.settle()
    assert house.messages[1:] == ["Water: Four, One, Three, Two"]
    hass.states.async_set("hub.is_there", "yes")
    await house.settle()
    assert sorted(event.data["name"] for event in off) == ["One", "Two"]
    assert house.messages[2:] == ["One, Two came back open. Water: Four, One, Three, Two"]


async def test_a_group_of_valves_that_were_all_away_is_closed_as_they_come_back(house: House) -> None:
    side = Valve("Side", POSITION_ONLY)
    await house.add(side)
    group = await house.group("valve", "Valves", [VALVE, "valve.side"])
    house.valve.shows("unavailable")
    side.shows("unavailable")
    house.with_process_cosmos()
    await house.automation(sensors=[KITCHEN], valve=group, closes_within=5)
    await house.wet(KITCHEN)
    await house.later(11)
    assert house.messages == ["Water: Kitchen", "Valves did not close, it is unavailable"]
    for valve in (house.valve, side):
        valve.shows("open")
        await house.settle()
        assert valve.state == "closed"


async def test_a_group_that_was_away_and_returns_wet_names_its_sensor(house: House) -> None:
    for sensor in (KITCHEN, BATH):
        house.sensor(sensor, "unavailable")
    floors = await house.group("binary_sensor", "Floors", [KITCHEN, BATH])
    house.with_process_cosmos()
    await house.automation(sensors=[floors], valve=VALVE)
    await house.wet(KITCHEN)
    await house.wet(BATH)
    assert house.messages == ["Water: Kitchen", "Water: Bath, Kitchen"]
    assert house.valve.commands == 2
