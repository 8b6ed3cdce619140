"""A simulated home with moisture sensors and valves that records calls of Process Cosmos actions."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from enum import Enum, auto
from pathlib import Path
from typing import Any, override

from homeassistant.components.automation import EVENT_AUTOMATION_TRIGGERED
from homeassistant.components.switch import SwitchEntity
from homeassistant.components.switch.const import DATA_COMPONENT as SWITCHES
from homeassistant.components.valve import ValveEntity, ValveEntityFeature
from homeassistant.components.valve.const import DATA_COMPONENT as VALVES
from homeassistant.core import Context, Event, HomeAssistant, ServiceCall, callback
from homeassistant.helpers import config_validation as cv
from homeassistant.helpers.script import Script, async_validate_actions_config
from homeassistant.setup import async_setup_component
from homeassistant.util import dt as dt_util
from homeassistant.util.yaml import dump
from pytest_homeassistant_custom_component.common import (
    MockConfigEntry,
    async_fire_time_changed,
    setup_test_component_platform,
)

from custom_components.process_cosmos.workflows.workflows import async_install

VALVE = "valve.main"
KITCHEN = "binary_sensor.kitchen"
BATH = "binary_sensor.bath"
AUTOMATION = "automation.leaks"
BLUEPRINT = "process_cosmos/leak_guard.yaml"
OPEN_AND_CLOSE = ValveEntityFeature.OPEN | ValveEntityFeature.CLOSE
POSITION_ONLY = ValveEntityFeature.SET_POSITION


class Close(Enum):
    """How a valve reacts to a command to close."""

    CLOSES = auto()
    IS_SLOW = auto()
    IGNORES = auto()
    RAISES = auto()
    HANGS = auto()


class Valve(ValveEntity):
    """A valve that reacts to successive commands as listed in ``behaviour``; the last entry repeats."""

    _attr_should_poll = False

    def __init__(self, name: str = "Main", features: ValveEntityFeature = OPEN_AND_CLOSE) -> None:
        """Create an open valve that closes on command."""
        self.behaviour: list[Close] = [Close.CLOSES]
        self.commands = 0
        self.let_go = asyncio.Event()
        self.entity_id = f"valve.{name.lower()}"
        self._attr_name = name
        self._attr_supported_features = features
        self._attr_reports_position = bool(features & ValveEntityFeature.SET_POSITION)
        self._shows(is_closed=False)

    @override
    async def async_close_valve(self) -> None:
        await self._obey()

    @override
    async def async_set_valve_position(self, position: int) -> None:
        if position:
            self.shows("open")
        else:
            await self._obey()

    @override
    async def async_open_valve(self) -> None:
        self.shows("open")

    def shows(self, state: str) -> None:
        """Report ``state``, as after any change of the device."""
        self._attr_available = state != "unavailable"
        self._shows(is_closed=None if state == "unknown" else state == "closed")
        self._attr_is_closing = state == "closing"
        self.async_write_ha_state()

    def _shows(self, *, is_closed: bool | None) -> None:
        self._attr_is_closed = is_closed
        self._attr_current_valve_position = None if is_closed is None else 0 if is_closed else 100

    async def _obey(self) -> None:
        self.commands += 1
        match self.behaviour.pop(0) if len(self.behaviour) > 1 else self.behaviour[0]:
            case Close.CLOSES:
                self.shows("closed")
            case Close.IS_SLOW:
                self.shows("closing")
            case Close.RAISES:
                raise TimeoutError
            case Close.HANGS:
                await self.let_go.wait()
                self.shows("open")
            case Close.IGNORES:
                self.shows("open")


class Switch(SwitchEntity):
    """A switch of a running pump."""

    _attr_should_poll = False

    def __init__(self, name: str = "Pump") -> None:
        """Create a switch that is on."""
        self._attr_is_on = True
        self.commands = 0
        self.entity_id = f"switch.{name.lower()}"
        self._attr_name = name

    @override
    async def async_turn_off(self, **_kwargs: Any) -> None:
        self.commands += 1
        self.shows("off")

    @override
    async def async_turn_on(self, **_kwargs: Any) -> None:
        self.shows("on")

    def shows(self, state: str) -> None:
        """Report ``state``, as after any change of the device."""
        self._attr_available = state != "unavailable"
        self._attr_is_on = state == "on"
        self.async_write_ha_state()


@dataclass
class LeakGuardHome:
    """Home Assistant with sensors and a valve, and recorders in place of the Process Cosmos actions."""

    hass: HomeAssistant
    valve: Valve
    raised: list[dict[str, Any]] = field(default_factory=list)
    resolved: list[dict[str, Any]] = field(default_factory=list)
    runs: list[str] = field(default_factory=list)

    def with_process_cosmos(self) -> None:
        """Register recorders for the actions ``alert`` and ``resolve``."""

        async def raise_alert(call: ServiceCall) -> None:
            self.raised.append(dict(call.data))

        async def resolve(call: ServiceCall) -> None:
            self.resolved.append(dict(call.data))

        self.hass.services.async_register("process_cosmos", "alert", raise_alert)
        self.hass.services.async_register("process_cosmos", "resolve", resolve)

    def sensor(self, entity_id: str, state: str) -> None:
        name = entity_id.partition(".")[2].capitalize()
        self.hass.states.async_set(entity_id, state, {"device_class": "moisture", "friendly_name": name})

    async def add(self, *entities: Valve | Switch) -> None:
        """Add valves and switches, as an integration that is set up later does."""
        assert await async_setup_component(self.hass, "switch", {})
        await self.hass.data[VALVES].async_add_entities([one for one in entities if isinstance(one, Valve)])
        await self.hass.data[SWITCHES].async_add_entities([one for one in entities if isinstance(one, Switch)])
        await self.hass.async_block_till_done()

    async def group(self, domain: str, name: str, members: Sequence[str]) -> str:
        """Create a group helper of ``domain``; return its entity id."""
        options = {"group_type": domain, "name": name, "entities": list(members), "hide_members": False, "all": False}
        helper = MockConfigEntry(domain="group", title=name, options=options)
        helper.add_to_hass(self.hass)
        assert await self.hass.config_entries.async_setup(helper.entry_id)
        await self.hass.async_block_till_done()
        return f"{domain}.{name.lower()}"

    async def automation(self, **inputs: object) -> None:
        """Install the blueprint as the integration does, and create an automation from it."""
        folder = Path(self.hass.config.config_dir)
        instance = {"id": "leaks", "alias": "Leaks", "use_blueprint": {"path": BLUEPRINT, "input": inputs}}
        await self.hass.async_add_executor_job(_write, folder / "configuration.yaml", {"automation": []})
        assert await async_setup_component(self.hass, "automation", {"automation": []})
        await async_install(self.hass)
        await self.hass.async_add_executor_job(_write, folder / "configuration.yaml", {"automation": [instance]})

        @callback
        def ran(event: Event) -> None:
            self.runs.append(event.data.get("source", ""))

        self.hass.bus.async_listen(EVENT_AUTOMATION_TRIGGERED, ran)
        await self.hass.services.async_call("automation", "reload", blocking=True)
        state = self.hass.states.get(AUTOMATION)
        assert state is not None
        assert state.state == "on"

    async def settle(self) -> None:
        """Run the event loop until all tasks finished that do not hang."""
        for _ in range(50):
            await asyncio.sleep(0)

    async def wet(self, *sensors: str) -> None:
        for sensor in sensors:
            self.sensor(sensor, "on")
        await self.settle()

    async def dry(self, *sensors: str) -> None:
        for sensor in sensors:
            self.sensor(sensor, "off")
        await self.settle()

    async def answer(self, name: str) -> None:
        """Run the actions of an answer of the newest alert of the leak, as Process Cosmos does."""
        alert = next(call for call in reversed(self.raised) if "group" not in call)
        [actions] = [answer["actions"] for answer in alert["answers"] if answer["name"] == name]
        sequence = await async_validate_actions_config(self.hass, cv.SCRIPT_SCHEMA(actions))
        await Script(self.hass, sequence, name, "test").async_run(context=Context())
        await self.settle()

    async def later(self, seconds: float) -> None:
        async_fire_time_changed(self.hass, dt_util.utcnow() + timedelta(seconds=seconds))
        await self.settle()

    @property
    def messages(self) -> list[str]:
        return [call["message"] for call in self.raised]


def _write(path: Path, content: dict[str, Any]) -> None:
    path.write_text(dump(content), encoding="utf-8")


async def set_up_home(hass: HomeAssistant) -> LeakGuardHome:
    """Set up a home with a valve and two dry sensors."""
    home = LeakGuardHome(hass, Valve())
    setup_test_component_platform(hass, "valve", [home.valve])
    assert await async_setup_component(hass, "valve", {"valve": {"platform": "test"}})
    await hass.async_block_till_done()
    for sensor in (KITCHEN, BATH):
        home.sensor(sensor, "off")
    return home
