"""The leak guard blueprint in Home Assistant, with reliable, slow and failing valves."""

import pytest
from homeassistant.components.trace.const import DATA_TRACE
from homeassistant.components.trace.models import ActionTrace
from homeassistant.core import CoreState, HomeAssistant

from .house import AUTOMATION, BATH, KITCHEN, VALVE, Close, LeakGuardHome, Switch

SENSORS = [KITCHEN, BATH]
DID_NOT_CLOSE = "Main did not close, it is open"


async def test_a_leak_closes_the_valve_and_alerts_with_answers(home: LeakGuardHome) -> None:
    home.with_process_cosmos()
    await home.automation(sensors=SENSORS, valve=VALVE)
    await home.wet(KITCHEN)
    assert home.valve.is_closed
    assert home.raised == [
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
    await home.later(60)
    assert home.valve.commands == 1
    assert len(home.raised) == 1


async def test_a_switch_is_turned_off_instead_of_a_valve(home: LeakGuardHome) -> None:
    worker = Switch()
    await home.add(worker)
    home.with_process_cosmos()
    await home.automation(sensors=SENSORS, valve="switch.pump")
    await home.wet(KITCHEN)
    assert worker.is_on is False
    again = home.raised[0]["answers"][0]["actions"][0]["parallel"]
    assert [step["action"] for step in again if step["enabled"]] == ["switch.turn_on"]


async def test_without_a_valve_people_are_alerted(home: LeakGuardHome) -> None:
    home.with_process_cosmos()
    await home.automation(sensors=[KITCHEN])
    await home.wet(KITCHEN)
    await home.later(60)
    assert home.messages == ["Water: Kitchen"]
    assert home.raised[0]["entities"] == [KITCHEN]
    assert home.raised[0]["answers"] == [{"name": "Dealt with"}]
    assert home.valve.commands == 0


async def test_a_second_sensor_is_named_with_the_first(home: LeakGuardHome) -> None:
    home.with_process_cosmos()
    await home.automation(sensors=SENSORS, valve=VALVE)
    await home.wet(KITCHEN)
    await home.wet(BATH)
    assert home.messages == ["Water: Kitchen", "Water: Bath, Kitchen"]


async def test_a_pulse_too_short_to_be_seen_still_counts(home: LeakGuardHome) -> None:
    home.with_process_cosmos()
    await home.automation(sensors=SENSORS, valve=VALVE)
    home.sensor(KITCHEN, "on")
    await home.dry(KITCHEN)
    assert home.valve.is_closed
    assert home.messages == ["Water: Kitchen"]


@pytest.mark.parametrize("before", ["unavailable", "unknown"])
async def test_a_sensor_that_returns_wet_counts(home: LeakGuardHome, before: str) -> None:
    home.with_process_cosmos()
    home.sensor(KITCHEN, before)
    await home.automation(sensors=SENSORS, valve=VALVE)
    await home.wet(KITCHEN)
    assert home.valve.is_closed
    assert home.messages == ["Water: Kitchen"]


async def test_a_sensor_that_was_wet_before_home_assistant_started_counts(
    home: LeakGuardHome, hass: HomeAssistant
) -> None:
    home.with_process_cosmos()
    hass.set_state(CoreState.not_running)
    await home.automation(sensors=SENSORS, valve=VALVE)
    await home.wet(KITCHEN)
    assert home.raised == []
    await hass.async_start()
    await home.settle()
    assert home.valve.is_closed
    assert home.messages == ["Water: Kitchen"]


async def test_a_valve_that_ignores_the_first_command_is_closed_once_more(home: LeakGuardHome) -> None:
    home.with_process_cosmos()
    home.valve.behaviour = [Close.IGNORES, Close.CLOSES]
    await home.automation(sensors=SENSORS, valve=VALVE, closes_within=5)
    await home.wet(KITCHEN)
    assert home.valve.commands == 1
    await home.later(6)
    assert home.valve.is_closed
    await home.later(60)
    assert home.valve.commands == 2
    assert home.messages == ["Water: Kitchen"]


@pytest.mark.parametrize("temper", [Close.IGNORES, Close.RAISES, Close.HANGS])
async def test_a_valve_that_does_not_close_is_tried_twice_and_has_its_own_alert(
    home: LeakGuardHome, temper: Close
) -> None:
    home.with_process_cosmos()
    home.valve.behaviour = [temper]
    await home.automation(sensors=SENSORS, valve=VALVE, closes_within=5)
    await home.wet(KITCHEN)
    assert home.messages == ["Water: Kitchen"]
    await home.later(6)
    assert home.valve.commands == 2
    await home.later(11)
    assert home.messages == ["Water: Kitchen", DID_NOT_CLOSE]
    assert home.raised[1] == {
        "message": DID_NOT_CLOSE,
        "severity": "critical",
        "group": f"{AUTOMATION} valve",
        "entities": [VALVE],
        "answers": [{"name": "Closed by hand"}],
    }


async def test_a_hanging_valve_action_delays_neither_this_alert_nor_the_next_one(home: LeakGuardHome) -> None:
    home.with_process_cosmos()
    home.valve.behaviour = [Close.HANGS]
    await home.automation(sensors=SENSORS, valve=VALVE)
    await home.wet(KITCHEN)
    assert home.messages == ["Water: Kitchen"]
    await home.dry(KITCHEN)
    await home.wet(BATH)
    assert home.messages == ["Water: Kitchen", "Water: Bath"]
    assert home.valve.commands == 2
    assert not home.valve.is_closed


async def test_a_hundred_leaks_with_a_hanging_valve_are_all_alerted(home: LeakGuardHome) -> None:
    home.with_process_cosmos()
    home.valve.behaviour = [Close.HANGS]
    await home.automation(sensors=SENSORS, valve=VALVE)
    for _ in range(100):
        await home.wet(KITCHEN)
        await home.dry(KITCHEN)
    assert len(home.raised) == 100


@pytest.mark.parametrize("temper", [Close.CLOSES, Close.IGNORES])
async def test_with_the_integration_removed_the_valve_still_closes(home: LeakGuardHome, temper: Close) -> None:
    home.valve.behaviour = [temper, Close.CLOSES]
    await home.automation(sensors=SENSORS, valve=VALVE)
    await home.wet(KITCHEN)
    await home.later(16)
    assert home.valve.is_closed
    await home.dry(KITCHEN)
    await home.later(61)
    home.valve.commands = 0
    await home.wet(KITCHEN)
    assert home.valve.commands == 1


async def test_with_the_integration_removed_the_trace_names_the_missing_action(
    home: LeakGuardHome, hass: HomeAssistant
) -> None:
    await home.automation(sensors=SENSORS, valve=VALVE)
    await home.wet(KITCHEN)
    runs = hass.data[DATA_TRACE]["automation.leaks"].runs.values()
    [steps] = [
        run.as_extended_dict()["trace"]
        for run in runs
        if isinstance(run, ActionTrace) and run.as_short_dict()["script_execution"] != "failed_conditions"
    ]
    errors = {path: step["error"] for path, [*_, step] in steps.items() if "error" in step}
    assert set(errors.values()) == {"Action process_cosmos.alert not found"}
    assert "/parallel/5/" in max(errors, key=len), "the branch that alerts"


async def test_dry_again_resolves_once_all_sensors_are_dry_for_long_enough(home: LeakGuardHome) -> None:
    home.with_process_cosmos()
    await home.automation(sensors=SENSORS, valve=VALVE, dry_for=60)
    await home.wet(KITCHEN, BATH)
    await home.dry(KITCHEN)
    await home.later(61)
    assert home.resolved == []
    await home.dry(BATH)
    assert home.resolved == []
    await home.later(61)
    assert home.resolved == [{"note": "Dry again"}]
    assert len(home.raised) == 2


async def test_an_unavailable_sensor_is_not_dry(home: LeakGuardHome) -> None:
    home.with_process_cosmos()
    await home.automation(sensors=SENSORS, valve=VALVE, dry_for=0)
    await home.wet(KITCHEN, BATH)
    home.sensor(BATH, "unavailable")
    await home.dry(KITCHEN)
    assert home.resolved == []
    await home.dry(BATH)
    assert home.resolved == [{"note": "Dry again"}]


async def test_dry_again_while_home_assistant_was_down_resolves_at_the_start(
    home: LeakGuardHome, hass: HomeAssistant
) -> None:
    home.with_process_cosmos()
    hass.set_state(CoreState.not_running)
    await home.automation(sensors=SENSORS, valve=VALVE)
    await hass.async_start()
    await home.settle()
    assert home.resolved == [{"note": "Dry again"}]
    assert home.raised == []


async def test_run_by_hand_it_acts_only_where_it_is_wet(home: LeakGuardHome, hass: HomeAssistant) -> None:
    home.with_process_cosmos()
    await home.wet(KITCHEN)
    await home.automation(sensors=SENSORS, valve=VALVE)
    await hass.services.async_call("automation", "trigger", {"entity_id": AUTOMATION}, blocking=True)
    await home.settle()
    assert home.valve.is_closed
    assert home.messages == ["Water: Kitchen"]
