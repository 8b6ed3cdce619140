"""A house with moisture sensors and a valve of any make, and what was asked of Process Cosmos."""

import asyncio
from dataclasses import dataclass, field
from datetime import timedelta
from enum import Enum, auto
from pathlib import Path
from typing import Any, override

from homeassistant.components.automation import EVENT_AUTOMATION_TRIGGERED
from homeassistant.components.switch import SwitchEntity
from homeassistant.components.valve import ValveEntity, ValveEntityFeature
from homeassistant.core import Event, HomeAssistant, ServiceCall, callback
from homeassistant.setup import async_setup_component
from homeassistant.util import dt as dt_util
from homeassistant.util.yaml import dump
from pytest_homeassistant_custom_component.common import async_fire_time_changed, setup_test_component_platform

from custom_components.process_cosmos.workflows import async_install

VALVE = "valve.main"
KITCHEN = "binary_sensor.kitchen"
BATH = "binary_sensor.bath"
AUTOMATION = "automation.leaks"
BLUEPRINT = "process_cosmos/leak_guard.yaml"


class Close(Enum):
    """What a valve makes of a command to close."""

    CLOSES = auto()
    IGNORES = auto()
    RAISES = auto()
    HANGS = auto()


class Valve(ValveEntity):
    """A valve that does what it was told to do with each next command; the last one told holds on."""

    _attr_name = "Main"
    _attr_should_poll = False
    _attr_reports_position = False
    _attr_is_closed = False
    _attr_supported_features = ValveEntityFeature.OPEN | ValveEntityFeature.CLOSE

    def __init__(self) -> None:
        """Make an open valve that closes."""
        self.behaviour: list[Close] = [Close.CLOSES]
        self.commands = 0
        self.let_go = asyncio.Event()
        self.entity_id = VALVE

    @override
    async def async_close_valve(self) -> None:
        self.commands += 1
        match self.behaviour.pop(0) if len(self.behaviour) > 1 else self.behaviour[0]:
            case Close.CLOSES:
                self._attr_is_closed = True
            case Close.RAISES:
                raise TimeoutError
            case Close.HANGS:
                await self.let_go.wait()
            case Close.IGNORES:
                pass
        self.async_write_ha_state()

    @override
    async def async_open_valve(self) -> None:
        self._attr_is_closed = False
        self.async_write_ha_state()


class Switch(SwitchEntity):
    """A pump that runs."""

    _attr_name = "Pump"
    _attr_should_poll = False
    _attr_is_on = True

    @override
    async def async_turn_off(self, **_kwargs: Any) -> None:
        self._attr_is_on = False
        self.async_write_ha_state()


@dataclass
class House:
    """Home Assistant with sensors as any integration reports them, and a recorder in the place of Process Cosmos."""

    hass: HomeAssistant
    valve: Valve
    escalated: list[dict[str, Any]] = field(default_factory=list)
    resolved: list[dict[str, Any]] = field(default_factory=list)
    runs: list[str] = field(default_factory=list)

    def with_process_cosmos(self) -> None:
        """Stand in for the integration's two actions."""

        async def escalate(call: ServiceCall) -> None:
            self.escalated.append(dict(call.data))

        async def resolve(call: ServiceCall) -> None:
            self.resolved.append(dict(call.data))

        self.hass.services.async_register("process_cosmos", "escalate", escalate)
        self.hass.services.async_register("process_cosmos", "resolve", resolve)

    def sensor(self, entity_id: str, state: str) -> None:
        name = entity_id.partition(".")[2].capitalize()
        self.hass.states.async_set(entity_id, state, {"device_class": "moisture", "friendly_name": name})

    async def automation(self, **inputs: object) -> None:
        """Set up automations, install the blueprint by the integration's own road, and make the automation from it."""
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
        """Let everything go on that can; what hangs hangs on."""
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

    async def later(self, seconds: float) -> None:
        async_fire_time_changed(self.hass, dt_util.utcnow() + timedelta(seconds=seconds))
        await self.settle()

    @property
    def messages(self) -> list[str]:
        return [call["message"] for call in self.escalated]


def _write(path: Path, content: dict[str, Any]) -> None:
    path.write_text(dump(content), encoding="utf-8")


async def furnish(hass: HomeAssistant) -> House:
    """Return a house with a valve and two dry sensors."""
    house = House(hass, Valve())
    setup_test_component_platform(hass, "valve", [house.valve])
    assert await async_setup_component(hass, "valve", {"valve": {"platform": "test"}})
    await hass.async_block_till_done()
    for sensor in (KITCHEN, BATH):
        house.sensor(sensor, "off")
    return house
