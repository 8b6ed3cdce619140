"""The blueprint on the real Home Assistant, with valves of every temper."""

import pytest
from homeassistant.components.trace.const import DATA_TRACE
from homeassistant.components.trace.models import ActionTrace
from homeassistant.core import CoreState, HomeAssistant

from .house import AUTOMATION, BATH, KITCHEN, VALVE, Close, House, Switch

SENSORS = [KITCHEN, BATH]
DID_NOT_CLOSE = "Main did not close, it is open"


async def test_a_leak_closes_the_valve_and_tells_with_answers(house: House) -> None:
    house.with_process_cosmos()
    await house.automation(sensors=SENSORS, valve=VALVE)
    await house.wet(KITCHEN)
    assert house.valve.is_closed
    assert house.raised == [
        {
            "message": "Water: Kitchen",
            "severity": "critical",
            "entities": [KITCHEN, VALVE],
            "answers": [
                {
                    "name": "Turn on again",
                    "if_interrupted": "repeat",
                    "actions": [
                        {
                            "parallel": [
                                {"enabled": True, "action": "valve.open_valve", "data": {"entity_id": [VALVE]}},
                                {
                                    "enabled": False,
                                    "action": "valve.set_valve_position",
                                    "data": {"entity_id": [], "position": 100},
                                },
                                {"enabled": False, "action": "switch.turn_on", "data": {"entity_id": []}},
                            ]
                        }
                    ],
                },
                {"name": "Keep off"},
            ],
        }
    ]
    await house.later(60)
    assert house.valve.commands == 1
    assert len(house.raised) == 1


async def test_a_switch_is_turned_off_in_the_place_of_a_valve(house: House) -> None:
    worker = Switch()
    await house.add(worker)
    house.with_process_cosmos()
    await house.automation(sensors=SENSORS, valve="switch.pump")
    await house.wet(KITCHEN)
    assert worker.is_on is False
    again = house.raised[0]["answers"][0]["actions"][0]["parallel"]
    assert [step["action"] for step in again if step["enabled"]] == ["switch.turn_on"]


async def test_without_a_valve_people_are_told(house: House) -> None:
    house.with_process_cosmos()
    await house.automation(sensors=[KITCHEN])
    await house.wet(KITCHEN)
    await house.later(60)
    assert house.messages == ["Water: Kitchen"]
    assert house.raised[0]["entities"] == [KITCHEN]
    assert house.raised[0]["answers"] == [{"name": "Dealt with"}]
    assert house.valve.commands == 0


async def test_a_second_sensor_is_told_with_the_first(house: House) -> None:
    house.with_process_cosmos()
    await house.automation(sensors=SENSORS, valve=VALVE)
    await house.wet(KITCHEN)
    await house.wet(BATH)
    assert house.messages == ["Water: Kitchen", "Water: Bath, Kitchen"]


async def test_a_pulse_too_short_to_be_seen_still_counts(house: House) -> None:
    house.with_process_cosmos()
    await house.automation(sensors=SENSORS, valve=VALVE)
    house.sensor(KITCHEN, "on")
    await house.dry(KITCHEN)
    assert house.valve.is_closed
    assert house.messages == ["Water: Kitchen"]


@pytest.mark.parametrize("before", ["unavailable", "unknown"])
async def test_a_sensor_that_returns_wet_counts(house: House, before: str) -> None:
    house.with_process_cosmos()
    house.sensor(KITCHEN, before)
    await house.automation(sensors=SENSORS, valve=VALVE)
    await house.wet(KITCHEN)
    assert house.valve.is_closed
    assert house.messages == ["Water: Kitchen"]


async def test_a_sensor_that_was_wet_before_home_assistant_started_counts(house: House, hass: HomeAssistant) -> None:
    house.with_process_cosmos()
    hass.set_state(CoreState.not_running)
    await house.automation(sensors=SENSORS, valve=VALVE)
    await house.wet(KITCHEN)
    assert house.raised == []
    await hass.async_start()
    await house.settle()
    assert house.valve.is_closed
    assert house.messages == ["Water: Kitchen"]


async def test_a_valve_that_ignores_the_first_command_is_closed_once_more(house: House) -> None:
    house.with_process_cosmos()
    house.valve.behaviour = [Close.IGNORES, Close.CLOSES]
    await house.automation(sensors=SENSORS, valve=VALVE, closes_within=5)
    await house.wet(KITCHEN)
    assert house.valve.commands == 1
    await house.later(6)
    assert house.valve.is_closed
    await house.later(60)
    assert house.valve.commands == 2
    assert house.messages == ["Water: Kitchen"]


@pytest.mark.parametrize("temper", [Close.IGNORES, Close.RAISES, Close.HANGS])
async def test_a_valve_that_does_not_close_is_tried_twice_and_told_by_itself(house: House, temper: Close) -> None:
    house.with_process_cosmos()
    house.valve.behaviour = [temper]
    await house.automation(sensors=SENSORS, valve=VALVE, closes_within=5)
    await house.wet(KITCHEN)
    assert house.messages == ["Water: Kitchen"]
    await house.later(6)
    assert house.valve.commands == 2
    await house.later(11)
    assert house.messages == ["Water: Kitchen", DID_NOT_CLOSE]
    assert house.raised[1] == {
        "message": DID_NOT_CLOSE,
        "severity": "critical",
        "group": f"{AUTOMATION} valve",
        "entities": [VALVE],
        "answers": [{"name": "Closed by hand"}],
    }


async def test_a_valve_whose_action_hangs_delays_neither_the_telling_nor_that_of_the_next_leak(house: House) -> None:
    house.with_process_cosmos()
    house.valve.behaviour = [Close.HANGS]
    await house.automation(sensors=SENSORS, valve=VALVE)
    await house.wet(KITCHEN)
    assert house.messages == ["Water: Kitchen"]
    await house.dry(KITCHEN)
    await house.wet(BATH)
    assert house.messages == ["Water: Kitchen", "Water: Bath"]
    assert house.valve.commands == 2
    assert not house.valve.is_closed


async def test_a_hundred_leaks_behind_a_valve_that_hangs_are_all_told(house: House) -> None:
    house.with_process_cosmos()
    house.valve.behaviour = [Close.HANGS]
    await house.automation(sensors=SENSORS, valve=VALVE)
    for _ in range(100):
        await house.wet(KITCHEN)
        await house.dry(KITCHEN)
    assert len(house.raised) == 100


@pytest.mark.parametrize("temper", [Close.CLOSES, Close.IGNORES])
async def test_with_the_integration_removed_the_valve_still_closes(house: House, temper: Close) -> None:
    house.valve.behaviour = [temper, Close.CLOSES]
    await house.automation(sensors=SENSORS, valve=VALVE)
    await house.wet(KITCHEN)
    await house.later(16)
    assert house.valve.is_closed
    await house.dry(KITCHEN)
    await house.later(61)
    house.valve.commands = 0
    await house.wet(KITCHEN)
    assert house.valve.commands == 1


async def test_with_the_integration_removed_the_trace_names_what_could_not_be_told(
    house: House, hass: HomeAssistant
) -> None:
    await house.automation(sensors=SENSORS, valve=VALVE)
    await house.wet(KITCHEN)
    runs = hass.data[DATA_TRACE]["automation.leaks"].runs.values()
    [steps] = [
        run.as_extended_dict()["trace"]
        for run in runs
        if isinstance(run, ActionTrace) and run.as_short_dict()["script_execution"] != "failed_conditions"
    ]
    errors = {path: step["error"] for path, [*_, step] in steps.items() if "error" in step}
    assert set(errors.values()) == {"Action process_cosmos.alert not found"}
    assert "/parallel/5/" in max(errors, key=len), "the branch that tells"


async def test_dry_again_resolves_once_all_sensors_are_dry_for_long_enough(house: House) -> None:
    house.with_process_cosmos()
    await house.automation(sensors=SENSORS, valve=VALVE, dry_for=60)
    await house.wet(KITCHEN, BATH)
    await house.dry(KITCHEN)
    await house.later(61)
    assert house.resolved == []
    await house.dry(BATH)
    assert house.resolved == []
    await house.later(61)
    assert house.resolved == [{"note": "Dry again"}]
    assert len(house.raised) == 2


async def test_a_sensor_nobody_hears_is_not_dry(house: House) -> None:
    house.with_process_cosmos()
    await house.automation(sensors=SENSORS, valve=VALVE, dry_for=0)
    await house.wet(KITCHEN, BATH)
    house.sensor(BATH, "unavailable")
    await house.dry(KITCHEN)
    assert house.resolved == []
    await house.dry(BATH)
    assert house.resolved == [{"note": "Dry again"}]


async def test_dry_again_while_home_assistant_was_away_resolves_at_the_start(house: House, hass: HomeAssistant) -> None:
    house.with_process_cosmos()
    hass.set_state(CoreState.not_running)
    await house.automation(sensors=SENSORS, valve=VALVE)
    await hass.async_start()
    await house.settle()
    assert house.resolved == [{"note": "Dry again"}]
    assert house.raised == []


async def test_run_by_hand_it_acts_only_where_it_is_wet(house: House, hass: HomeAssistant) -> None:
    house.with_process_cosmos()
    await house.wet(KITCHEN)
    await house.automation(sensors=SENSORS, valve=VALVE)
    await hass.services.async_call("automation", "trigger", {"entity_id": AUTOMATION}, blocking=True)
    await house.settle()
    assert house.valve.is_closed
    assert house.messages == ["Water: Kitchen"]
